package service

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// noted notes which rows are read. For it, a day passes when a test says so: the
// store writes rows by the time of day.
type noted struct {
	fleet.Store
	rows   []string
	passed time.Time // what was written since is a day younger than its row says
}

const aDay = 24 * time.Hour

func (r *noted) ByStatus(ctx context.Context, status fleet.Status, since string, fn func([]fleet.Minion) error) error {
	return r.Store.ByStatus(ctx, status, "", func(page []fleet.Minion) error {
		for i, row := range page {
			at, err := fleet.ParseTime(row.Modified)
			if err != nil {
				return err
			}
			if !r.passed.IsZero() && !at.Before(r.passed) {
				page[i].Modified = fleet.FormatTime(at.Add(aDay))
			}
		}
		return fn(slices.DeleteFunc(page, func(row fleet.Minion) bool { return row.Modified < since }))
	})
}

func (r *noted) Minions(ctx context.Context, ids []string) (map[string]fleet.Minion, error) {
	r.rows = append(r.rows, ids...)
	return r.Store.Minions(ctx, ids)
}

// take returns what was read since the last take.
func (r *noted) take() []string {
	rows := r.rows
	r.rows = nil
	slices.Sort(rows)
	return rows
}

// settledRig is a master with a minion whose highstate ran, and a foreign key;
// both are compared, and a day has passed.
func settledRig(t *testing.T) (*rig, *noted) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	store := &noted{Store: db}
	r := newRig(t, store, func(c *Config) { c.ResyncEvery, c.PollEvery = ResyncEvery, time.Minute })
	r.apply(fleet.Add{InstanceID: "ran"})
	r.knocks("ran", []byte(lab.UnknownKey()))
	r.inbox.Enqueue("ran", true)
	r.step()
	r.returns("ran")
	r.salt.keys[salt.Accepted]["foreign"] = []byte(lab.UnknownKey())
	r.pass(aDay)
	r.step()
	if !r.row("ran").HighstateRan {
		t.Fatal("its highstate did not run")
	}
	store.take()
	<-time.After(2 * time.Millisecond) // Modified has milliseconds
	store.passed = time.Now().Truncate(time.Millisecond)
	return r, store
}

// TestPendingKeyIsNoMinion: the heartbeat counts the ids whose keys are accepted. A
// minion whose key is only pending is connected to no master.
func TestPendingKeyIsNoMinion(t *testing.T) {
	r, _ := settledRig(t)
	r.salt.knock("stranger", []byte(lab.UnknownKey()))
	r.compares()
	if len(r.salt.keys[salt.Pending]) != 1 || r.minions != 2 {
		t.Errorf("%d minions, and %d pending keys", r.minions, len(r.salt.keys[salt.Pending]))
	}
}

// TestAcceptedKeysAreCountedSoon: the beats say of a key that was accepted or deleted
// before the next comparison.
func TestAcceptedKeysAreCountedSoon(t *testing.T) {
	r := newRig(t, openSQLite(t), func(*Config) {})
	r.bearer("web-1")
	r.bearer("web-2")
	r.runFor(time.Minute)
	if r.minions != 2 {
		t.Errorf("%d after two were accepted", r.minions)
	}
	r.apply(fleet.Retire{InstanceID: "web-2"})
	r.runFor(3 * time.Minute)
	if r.minions != 1 {
		t.Errorf("%d after one was deleted", r.minions)
	}
}

// compares lets the next comparison come.
func (r *rig) compares() {
	r.t.Helper()
	r.pass(ResyncEvery)
	r.step()
}

// TestSettled: rows that cannot have changed are not read, until the hour is
// over; and they are counted all the same.
func TestSettled(t *testing.T) {
	r, store := settledRig(t)
	for range 20 {
		r.compares()
	}
	if rows := store.take(); len(rows) != 0 {
		t.Errorf("read %v", rows)
	}
	if c := r.engine.resyncs.census; c["done"] != 1 || c["foreign"] != 1 {
		t.Errorf("%v", c)
	}
	r.pass(time.Hour)
	r.step()
	if rows := store.take(); !slices.Equal(rows, []string{"foreign", "ran"}) {
		t.Errorf("after an hour, read %v", rows)
	}
}

// TestSettledNoMore: another host writes, or somebody changes a key, without a
// message; the next comparison finds it.
func TestSettledNoMore(t *testing.T) {
	write := func(c fleet.Change) func(*rig) {
		return func(r *rig) {
			r.t.Helper()
			if _, err := fleet.ApplyOne(r.t.Context(), r.store, c); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		happens func(*rig)
		found   func(*rig) bool
	}{
		"its highstate is asked for": {write(fleet.Rerun{InstanceID: "ran"}),
			func(r *rig) bool { return r.engine.highstates["ran"] != nil }},
		"it is terminated": {write(fleet.Retire{InstanceID: "ran"}),
			func(r *rig) bool { return !r.accepted("ran") }},
		"the foreign one is listed": {write(fleet.Add{InstanceID: "foreign"}),
			func(r *rig) bool { return r.row("foreign").Adopted() && r.accepted("foreign") }},
		"another key lies in its place": {func(r *rig) { r.salt.keys[salt.Accepted]["ran"] = []byte(lab.UnknownKey()) },
			func(r *rig) bool { _, is := r.engine.unchanged["ran"]; return !is }},
		"another key is pending": {func(r *rig) { r.salt.keys[salt.Pending]["ran"] = []byte(lab.UnknownKey()) },
			func(r *rig) bool { return r.salt.keys[salt.Pending]["ran"] == nil }},
		"its key is gone": {func(r *rig) { delete(r.salt.keys[salt.Accepted], "ran") },
			func(r *rig) bool { return r.engine.resyncs.census["done"] == 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := settledRig(t)
			c.happens(r)
			r.compares()
			r.compares() // a key that is deleted is counted at the next
			if !c.found(r) {
				t.Errorf("it is not found; row %+v, census %v", r.row("ran"), r.engine.resyncs.census)
			}
		})
	}
}
