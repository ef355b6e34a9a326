package service

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// halfBroken is a store, a master, its key store, EC2 and the proofs, of which
// one thing at a time is broken. What is broken is about ids that begin with
// "bad", or about the thing as a whole.
type halfBroken struct {
	fleet.Store
	*plain
	fault    string
	digest   string // of every minion's key
	deletes  int
	accepts  int
	attempts int // publishes
}

var errBroken = errors.New("broken")

func bad(id string) bool { return strings.HasPrefix(id, "bad") }

func anyBad(ids []string) bool { return slices.ContainsFunc(ids, bad) }

func (h *halfBroken) Minions(ctx context.Context, ids []string) (map[string]fleet.Minion, error) {
	rows, err := h.Store.Minions(ctx, ids)
	if h.fault == "undecodable row" && err == nil {
		faults := map[string]error{}
		for id := range rows {
			if bad(id) {
				delete(rows, id)
				faults[id] = fmt.Errorf("item %s: %w", id, fleet.ErrCorrupt)
			}
		}
		if len(faults) > 0 {
			return rows, &fleet.BadRowsError{Rows: faults}
		}
	}
	return rows, err
}

func (h *halfBroken) ByStatus(ctx context.Context, status fleet.Status, since string,
	fn func([]fleet.Minion) error) error {
	if h.fault == "index throttled" {
		return fmt.Errorf("list: %w", fleet.ErrUnavailable)
	}
	if h.fault != "undecodable row" {
		return h.Store.ByStatus(ctx, status, since, fn)
	}
	faults := map[string]error{}
	err := h.Store.ByStatus(ctx, status, since, func(page []fleet.Minion) error {
		return fn(slices.DeleteFunc(page, func(row fleet.Minion) bool {
			if bad(row.InstanceID) {
				faults[row.InstanceID] = fmt.Errorf("item %s: %w", row.InstanceID, fleet.ErrCorrupt)
			}
			return bad(row.InstanceID)
		}))
	})
	if err == nil && len(faults) > 0 {
		err = &fleet.BadRowsError{Rows: faults}
	}
	return err
}

func (h *halfBroken) Accept(ctx context.Context, ids []string) error {
	h.accepts++
	switch {
	case h.fault == "refused accept" && anyBad(ids):
		return fmt.Errorf("%w: key.accept_dict: no", salt.ErrRefused)
	case h.fault == "accepts time out":
		return fmt.Errorf("%w: context deadline exceeded", salt.ErrUnreachable)
	}
	return h.plain.Accept(ctx, ids)
}

func (h *halfBroken) Delete(ctx context.Context, keys map[salt.State][]string) error {
	h.deletes++
	if h.fault == "deletes time out" {
		return fmt.Errorf("%w: context deadline exceeded", salt.ErrUnreachable)
	}
	for _, ids := range keys {
		if h.fault == "refused delete" && anyBad(ids) {
			return fmt.Errorf("%w: key.delete_dict: no", salt.ErrRefused)
		}
	}
	for state, ids := range keys {
		if h.fault == "unlink failing" { // Salt says nothing of a file that it could not remove
			keys[state] = slices.DeleteFunc(slices.Clone(ids), bad)
		}
	}
	return h.plain.Delete(ctx, keys)
}

func (h *halfBroken) Publish(ctx context.Context, j salt.Job) ([]string, error) {
	h.attempts++
	if h.fault == "refused publish" && anyBad(j.Targets) {
		return nil, fmt.Errorf("%w: AuthorizationError", salt.ErrRefused)
	}
	return h.plain.Publish(ctx, j)
}

func (h *halfBroken) Read(id string, state salt.State) ([]byte, error) {
	if h.fault == "unreadable key" && bad(id) {
		return nil, fmt.Errorf("it is a d---------, not a file")
	}
	return h.plain.Read(id, state)
}

func (h *halfBroken) UnlinkPending(id string, seen []byte) error {
	if h.fault == "unlink failing" && bad(id) {
		return fmt.Errorf("unlink pending key %s: %w", id, syscall.EPERM)
	}
	return h.plain.UnlinkPending(id, seen)
}

func (h *halfBroken) WriteAccepted(keys map[string][]byte) ([]string, map[string]error, error) {
	if h.fault == "disk full" {
		return nil, nil, syscall.ENOSPC
	}
	return h.plain.WriteAccepted(keys)
}

func (h *halfBroken) Proofs(_ context.Context, instances []string) (map[string]fleet.Proof, error) {
	if h.fault == "proofs denied" {
		return nil, fmt.Errorf("read proofs: %w", fleet.ErrDenied)
	}
	out := map[string]fleet.Proof{}
	for _, id := range instances {
		out[id] = fleet.Proof{KeySHA256: h.digest}
	}
	return out, nil
}

func (h *halfBroken) Instances(_ context.Context, ids []string) (map[string]string, error) {
	if h.fault == "EC2 away" {
		return nil, errBroken
	}
	out := map[string]string{}
	for _, id := range ids {
		out[id] = id
	}
	return out, nil
}

// TestG12_OneBadThing: whatever is broken, about one minion or about one thing
// that the bridge asks, everybody whom it does not concern is served within one
// interval: keys are accepted, highstates run and are recorded, keys of the
// terminated go.
func TestG12_OneBadThing(t *testing.T) {
	const good = 20
	for _, c := range []struct {
		fault string
		// which stages must go on for those who are not concerned
		accepts, knows, runs, deletes bool
	}{
		{"none", true, true, true, true},
		{"undecodable row", true, true, true, true},
		{"unreadable key", true, true, true, true},
		{"refused publish", true, true, true, true},
		{"refused accept", true, true, true, true},
		// Keys that are bound are written by the comparison, master or not.
		{"accepts time out", true, true, true, true},
		{"proofs denied", false, true, true, true},
		// Whose name it is by now, EC2 alone says.
		{"EC2 away", false, true, true, false},
		{"index throttled", true, true, true, true},
		{"unlink failing", true, true, true, true},
		{"disk full", true, true, true, true},
	} {
		t.Run(c.fault, func(t *testing.T) {
			r, h := brokenRig(t)
			ids := []string{"bad-1", "bad-2"}
			for i := range good {
				ids = append(ids, fmt.Sprintf("good-%02d", i))
			}
			key := []byte(lab.UnknownKey())
			h.digest, _ = fleet.KeyDigest(key)
			digest := h.digest
			write := func(cs ...fleet.Change) {
				if _, err := h.Store.Apply(t.Context(), cs); err != nil {
					t.Fatal(err)
				}
			}
			for _, id := range ids {
				// Bound, accepted, connected, wants its highstate; learned before.
				write(fleet.Add{InstanceID: id + "-ran", MinionID: id + "-ran"},
					fleet.Bind{InstanceID: id + "-ran", KeySHA256: digest, PublicKey: string(key)})
				h.keys[salt.Accepted][id+"-ran"] = key
				r.inbox.Enqueue(id+"-ran", false)
			}
			r.works(time.Second)
			h.fault = c.fault
			for _, id := range ids {
				r.inbox.Enqueue(id+"-ran", true)
				// Known to the fleet by another master, new here.
				write(fleet.Add{InstanceID: id + "-new", MinionID: id + "-new"})
				h.knock(id+"-new", key)
				r.inbox.Enqueue(id+"-new", false)
				write(fleet.Add{InstanceID: id + "-known", MinionID: id + "-known"},
					fleet.Bind{InstanceID: id + "-known", KeySHA256: digest, PublicKey: string(key)})
				h.knock(id+"-known", key)
				r.inbox.Enqueue(id+"-known", false)
				// Known by its key, and on another master.
				write(fleet.Add{InstanceID: id + "-away", MinionID: id + "-away"},
					fleet.Bind{InstanceID: id + "-away", KeySHA256: digest, PublicKey: string(key)})
				// Terminated, and still accepted.
				write(fleet.Add{InstanceID: id + "-gone", MinionID: id + "-gone"},
					fleet.Bind{InstanceID: id + "-gone", KeySHA256: digest}, fleet.Retire{InstanceID: id + "-gone"})
				h.keys[salt.Accepted][id+"-gone"] = key
				r.inbox.Invalidate([]string{id + "-gone"})
			}
			r.works(ResyncEvery + time.Minute)
			for _, id := range ids[2:] {
				if got := r.accepted(id + "-new"); got != c.accepts {
					t.Errorf("%s-new accepted: %v", id, got)
				}
				if got := r.accepted(id + "-known"); got != c.knows {
					t.Errorf("%s-known accepted: %v", id, got)
				}
				if got := r.accepted(id + "-away"); got != (c.fault != "disk full" && c.fault != "index throttled") {
					t.Errorf("%s-away written: %v", id, got)
				}
				if got := r.row(id + "-ran").HighstateRan; got != c.runs {
					t.Errorf("%s-ran ran: %v, %s", id, got, r.row(id+"-ran").ClaimState)
				}
				if got := !r.accepted(id + "-gone"); got != c.deletes {
					t.Errorf("%s-gone deleted: %v", id, got)
				}
			}
			if h.deletes > 8 {
				t.Errorf("%d delete calls in %v; each rotates the AES key", h.deletes, ResyncEvery+time.Minute)
			}
			if told := len(r.told) > 0; told != (c.fault != "none") {
				t.Errorf("status told of %v", r.told)
			}
		})
	}
}

// brokenRig is a rig whose parts all are h's.
func brokenRig(t *testing.T) (*rig, *halfBroken) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	h := &halfBroken{Store: db, plain: newPlain(), fault: "none"}
	r := newRig(t, h, func(c *Config) {
		c.Admit, c.Proofs, c.Names, c.Concurrency = decide.Proven, h, h, 1000
		c.ResyncEvery, c.PollEvery = ResyncEvery, time.Minute
	})
	r.salt = h.plain
	r.engine.master, r.engine.keys = h, h
	return r, h
}

// works lets time pass for d, as it does for a bridge: a step when one is due. Each
// job that is published returns.
func (r *rig) works(d time.Duration) {
	r.t.Helper()
	for end, n := r.clock.Add(d), 0; r.clock.Before(end); {
		next := r.engine.Step(r.t.Context())
		s := r.engine.Status()
		for _, p := range s.Problems {
			r.told = append(r.told, p.What)
		}
		for _, p := range s.Stages {
			r.told = append(r.told, p)
		}
		for ; n < len(r.salt.published); n++ {
			for _, id := range r.salt.published[n].Targets {
				r.inbox.Return(event.Return{ID: id, JID: r.salt.published[n].JID, Fun: "state.highstate"})
			}
		}
		r.clock = r.clock.Add(max(next.Sub(r.clock), 10*time.Millisecond))
	}
}
