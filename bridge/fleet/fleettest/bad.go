package fleettest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"phoenix/bridge/fleet"
)

// Table is one of those that may hold a bad row.
type Table string

// The tables, by the names that the design has for them.
const (
	Minions Table = "minions"
	Masters Table = "masters"
)

// Spoil makes a row that is there one that the store cannot decode, as another
// program, or a failing disk, would. It sees to it that the store's own checks at the
// end of the test do not count that row.
type Spoil func(t *testing.T, s fleet.Store, table Table, id string)

// named fails unless err is a *fleet.BadRowsError of these rows alone, each of which
// is named in what is said of it.
func named(err error, ids ...string) error {
	bad, rest := fleet.WithoutBadRows(err)
	got := slices.Sorted(maps.Keys(bad))
	slices.Sort(ids)
	if rest != nil || !slices.Equal(got, ids) || len(ids) > 0 && !errors.Is(err, fleet.ErrCorrupt) {
		return fmt.Errorf("bad rows %q and %w; want %q, nothing else, and ErrCorrupt", got, err, ids)
	}
	for id, why := range bad {
		if !errors.Is(why, fleet.ErrCorrupt) {
			return fmt.Errorf("row %s: %w is not ErrCorrupt", id, why)
		}
	}
	return nil
}

// badRowsRead: every read gives all other rows, and names the bad ones.
func badRowsRead(t *testing.T, ctx context.Context, s fleet.Store, spoil Spoil) {
	ids := addMany(t, ctx, s)
	// The first, the last of a page and one within it, for pages of any size.
	bad := []string{ids[0], ids[99], ids[100], ids[999], ids[1000], ids[many-1]}
	eventually(t, ctx, "rows by status", func() error {
		return listed(ctx, s, fleet.Launch, many, func(string) bool { return true })
	})
	for _, id := range bad {
		spoil(t, s, Minions, id)
	}
	rows, err := s.Minions(ctx, ids)
	if err := named(err, bad...); err != nil {
		t.Errorf("read: %v", err)
	}
	if len(rows) != many-len(bad) {
		t.Errorf("%d rows of %d good ones", len(rows), many-len(bad))
	}
	for id, row := range rows {
		if slices.Contains(bad, id) || row.InstanceID != id {
			t.Fatalf("row of %s is %s", id, Text(row))
		}
	}
	eventually(t, ctx, "rows by status, but for the bad ones", func() error {
		err := listed(ctx, s, fleet.Launch, many-len(bad), func(id string) bool { return !slices.Contains(bad, id) })
		return named(err, bad...)
	})
	if row, err := s.Minion(ctx, bad[0]); !errors.Is(err, fleet.ErrCorrupt) || errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("a bad row is read as %s, %v", Text(row), err)
	}
	if _, err := s.Minion(ctx, ids[1]); err != nil {
		t.Errorf("a good row: %v", err)
	}
	stop := errors.New("stop")
	if err := s.ByStatus(ctx, fleet.Launch, "", func([]fleet.Minion) error { return stop }); !errors.Is(err, stop) ||
		errors.Is(err, fleet.ErrCorrupt) {
		t.Errorf("an error of fn, beside bad rows: %v", err)
	}
}

// badRowsWritten: a change of a bad row fails alone, whatever it is.
func badRowsWritten(t *testing.T, ctx context.Context, s fleet.Store, spoil Spoil) {
	model := Model{}
	var batch []fleet.Change
	bad := map[string]bool{}
	for i, in := range Inputs() {
		id, good := fmt.Sprintf("i-%08x", i), fmt.Sprintf("i-f%07x", i)
		model.Apply(apply(t, ctx, s, fleet.Add{InstanceID: id},
			fleet.Bind{InstanceID: id, KeySHA256: keyA, PublicKey: pem},
			fleet.Claim{InstanceID: id, Owner: "m1", Incarnation: "1", JID: "j1", Attempt: 1})...)
		spoil(t, s, Minions, id)
		bad[id] = true
		batch = append(batch, in.Change(id, model[id]), fleet.Add{InstanceID: good})
	}
	results, err := s.Apply(ctx, batch)
	if err != nil {
		t.Fatalf("changes of good and of bad rows: %v", err)
	}
	for i, r := range results {
		switch id := batch[i].Instance(); {
		case bad[id] && !errors.Is(r.Err, fleet.ErrCorrupt):
			t.Errorf("%T of the bad row %s: %v", batch[i], id, r.Err)
		case !bad[id] && (r.Err != nil || r.Row.InstanceID != id):
			t.Errorf("%T of %s: %v, %s", batch[i], id, r.Err, Text(r.Row))
		}
	}
}

// badMasters: a bad row hides no other master, its own bridge mends it, and it can
// be retired.
func badMasters(t *testing.T, ctx context.Context, s fleet.Store, spoil Spoil) {
	beat := func(id string) fleet.Beat { return fleet.Beat{InstanceID: id, IPAddr: "127.0.0.1", Incarnation: "1"} }
	for _, id := range []string{"i-m1", "i-m2", "i-m3"} {
		if _, err := s.Beat(ctx, beat(id)); err != nil {
			t.Fatal(err)
		}
	}
	spoil(t, s, Masters, "i-m2")
	spoil(t, s, Masters, "i-m3")
	rows, err := s.Masters(ctx)
	if err := named(err, "i-m2", "i-m3"); err != nil || len(rows) != 1 || rows[0].InstanceID != "i-m1" {
		t.Errorf("masters %+v: %v", rows, err)
	}
	if _, err := s.Beat(ctx, beat("i-m1")); err != nil {
		t.Errorf("beat of a good row: %v", err)
	}
	if err := s.DrainMaster(ctx, "i-m2", true); err != nil && !errors.Is(err, fleet.ErrCorrupt) {
		t.Errorf("drain of a bad row: %v", err)
	}
	row, err := s.Beat(ctx, beat("i-m2"))
	if row.Modified = ""; err != nil || row.InstanceID != "i-m2" || row.Status != fleet.Launch ||
		row.Incarnation != "1" || row.Heartbeat == 0 {
		t.Errorf("a bridge's beat of its own bad row: %+v, %v", row, err)
	}
	if again, err := s.Beat(ctx, beat("i-m2")); err != nil || again.Heartbeat != row.Heartbeat+1 {
		t.Errorf("the next beat: %+v, %v", again, err)
	}
	if err := s.RetireMaster(ctx, "i-m3"); err != nil {
		t.Errorf("retire a bad row: %v", err)
	}
	if _, err := s.Beat(ctx, beat("i-m3")); !errors.Is(err, fleet.ErrTerminated) {
		t.Errorf("beat of a bad row that was retired: %v", err)
	}
	if rows, err := s.Masters(ctx); len(rows) < 2 {
		t.Errorf("masters, once mended: %+v, %v", rows, err)
	}
}

// badPrune: what has expired is deleted, though others are bad.
func badPrune(t *testing.T, ctx context.Context, s fleet.Store, spoil Spoil) {
	const past, gone, bad = 1, "i-00000001", "i-00000002"
	apply(t, ctx, s, fleet.Retire{InstanceID: gone}, fleet.Retire{InstanceID: bad},
		fleet.Tombstone{InstanceID: gone, Expires: past})
	if _, err := s.Beat(ctx, fleet.Beat{InstanceID: "i-m1"}); err != nil {
		t.Fatal(err)
	}
	spoil(t, s, Minions, bad)
	spoil(t, s, Masters, "i-m1")
	eventually(t, ctx, "what has expired is gone", func() error {
		if _, err := s.Prune(ctx); err != nil {
			if _, rest := fleet.WithoutBadRows(err); rest != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Minion(ctx, gone); !errors.Is(err, fleet.ErrNotFound) {
			return fmt.Errorf("%s is there: %v", gone, err)
		}
		return nil
	})
	if _, err := s.Minion(ctx, bad); !errors.Is(err, fleet.ErrCorrupt) {
		t.Errorf("the bad row: %v", err)
	}
}

// rivals: what tells two bridges of one instance id of each other is the counter,
// which goes up by more than one's own beats, and the incarnation in the row.
func rivals(t *testing.T, ctx context.Context, s fleet.Store) {
	beat := func(incarnation string, want int64) {
		t.Helper()
		row, err := s.Beat(ctx, fleet.Beat{InstanceID: "i-m1", Incarnation: incarnation})
		if err != nil || row.Heartbeat != want || row.Incarnation != incarnation {
			t.Errorf("beat of %s: %+v, %v; want the counter at %d", incarnation, row, err, want)
		}
		rows, err := s.Masters(ctx)
		if err != nil || len(rows) != 1 || rows[0] != row {
			t.Errorf("after a beat of %s: %+v, %v", incarnation, rows, err)
		}
	}
	beat("a", 1)
	beat("a", 2)
	beat("b", 3)
	beat("a", 4) // two more than its last, so that another beats too
}
