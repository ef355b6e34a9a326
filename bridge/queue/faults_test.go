package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// spoiled is a store in which some rows cannot be decoded, nor written.
type spoiled struct {
	fleet.Store
	ids map[string]bool
}

func (s spoiled) bad(ids []string) error {
	rows := map[string]error{}
	for _, id := range ids {
		if s.ids[id] {
			rows[id] = fmt.Errorf("decode %s: attempt: not a number", id)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return &fleet.BadRowsError{Rows: rows}
}

func (s spoiled) Minions(ctx context.Context, ids []string) (map[string]fleet.Minion, error) {
	rows, err := s.Store.Minions(ctx, ids)
	for id := range s.ids {
		delete(rows, id)
	}
	return rows, errors.Join(err, s.bad(ids))
}

func (s spoiled) ByStatus(ctx context.Context, status fleet.Status, since string, fn func([]fleet.Minion) error) error {
	var bad []string
	err := s.Store.ByStatus(ctx, status, since, func(page []fleet.Minion) error {
		var good []fleet.Minion
		for _, row := range page {
			if s.ids[row.InstanceID] {
				bad = append(bad, row.InstanceID)
			} else {
				good = append(good, row)
			}
		}
		return fn(good)
	})
	return errors.Join(err, s.bad(bad))
}

func (s spoiled) Masters(ctx context.Context) ([]fleet.Master, error) {
	rows, err := s.Store.Masters(ctx)
	var good []fleet.Master
	var bad []string
	for _, row := range rows {
		if s.ids[row.InstanceID] {
			bad = append(bad, row.InstanceID)
		} else {
			good = append(good, row)
		}
	}
	return good, errors.Join(err, s.bad(bad))
}

func (s spoiled) Apply(ctx context.Context, changes []fleet.Change) ([]fleet.Result, error) {
	results, err := s.Store.Apply(ctx, changes)
	for i, c := range changes {
		if err == nil && s.ids[c.Instance()] {
			results[i] = fleet.Result{Err: fmt.Errorf("%w: not a number", fleet.ErrCorrupt)}
		}
	}
	return results, err
}

// TestG6OneBadRow: a row that cannot be read or written keeps its own messages, and
// nobody else's, from being applied; its hook from being ended, and nobody else's; and
// no comparison with AutoScaling from all that is not about it.
func TestG6OneBadRow(t *testing.T) {
	bad := map[string]bool{instance(3): true, instance(4): true}
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "q"}, webAndMasters...)
		defer func() { x.stop() }()
		x.reader.store = spoiled{x.store, bad}
		for i := range 8 {
			x.send(message("LAUNCH", instance(i), "web", time.Now()), message("TERMINATE", instance(i), "web", time.Now()))
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s := x.reader.Stats(); s.Ours != 12 || s.Transient != 4 || len(x.left()) != 4 {
			t.Errorf("%+v, %d left", s, len(x.left()))
		}
	})
	x := newPlace(t, 8, nil)
	x.rec.store, x.hooks.store = spoiled{x.store, bad}, spoiled{x.store, bad}
	x.groups["web"][instance(10)], x.instances[instance(10)] = "InService", fakeInstance{"running", time.Now().Add(time.Hour)}
	x.end(2, 6)
	x.pass(t, 2)
	if gone := x.terminated(t); fmt.Sprint(gone) != fmt.Sprint([]string{instance(2), instance(5)}) {
		t.Errorf("terminated %v", gone)
	}
	if r := x.rec.Report(); fmt.Sprint(r.Bad) != fmt.Sprint([]string{instance(3), instance(4)}) || r.Error != "" || statusOf(t, x.store, instance(10)) != fleet.Launch {
		t.Errorf("%+v", r)
	}
	if n := x.log.count("rows of the fleet are passed over"); n != 1 {
		t.Errorf("%d lines tell of bad rows", n)
	}
}

// TestOneDependencyAway: what does not need the one that is away is done within one
// interval, whichever it is.
func TestOneDependencyAway(t *testing.T) {
	away := func(method string) fleettest.Plan {
		var mu sync.Mutex
		return func(c fleettest.Call) (f fleettest.Fault) {
			mu.Lock()
			defer mu.Unlock()
			if c.Method == method {
				f.Before = fmt.Errorf("throttled: %w", fleet.ErrUnavailable)
			}
			return f
		}
	}
	for name, c := range map[string]struct {
		store fleettest.Plan
		aws   string // the action that fails
		done  string // instances whose messages are applied
	}{
		"nothing":     {nil, "", "launch end gone old"},
		"EC2":         {nil, "DescribeInstances", "launch end"},
		"AutoScaling": {nil, "DescribeAutoScalingInstances", "launch end gone old"},
		"hooks":       {nil, "CompleteLifecycleAction", "launch end gone old"},
		"index":       {away("ByStatus"), "", "launch end gone old"}, // terminations then need EC2's word
		"masters":     {away("Masters"), "", "launch end old"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newRig(t, c.store, Item{"", "q"}, webAndMasters...)
				defer func() { x.stop() }()
				x.set(func() {
					x.fail = failing("none", "")
					if c.aws != "" {
						x.fail = failing(c.aws, "InternalFailure")
					}
					x.instances[instance(2)] = fakeInstance{"terminated", time.Now()}
					x.instances[instance(3)] = fakeInstance{"terminated", time.Now()}
					x.instances[instance(4)] = fakeInstance{"running", time.Now().Add(time.Hour)}
				})
				x.send(message("TERMINATE", instance(3), "salt", time.Now()), // a master's
					message("TERMINATE", instance(2), "web", time.Now()),
					message("LAUNCH", instance(4), "web", time.Now().Add(-2*time.Hour)),
					string(fixture(t, "eventbridge-hook-into-pool.json")),
					message("LAUNCH", instance(1), "web", time.Now()))
				time.Sleep(visible / 2)
				synctest.Wait()
				for what, want := range map[string]fleet.Status{"launch": fleet.Launch, "end": fleet.Terminate, "gone": fleet.Terminate, "old": fleet.Launch} {
					id := map[string]string{"launch": instance(1), "end": instance(2), "gone": instance(3), "old": instance(4)}[what]
					if !strings.Contains(c.done, what) {
						want = ""
					}
					if got := statusOf(t, x.store, id); got != want {
						t.Errorf("%s: %q, want %q", what, got, want)
					}
				}
			})
		})
	}
}
