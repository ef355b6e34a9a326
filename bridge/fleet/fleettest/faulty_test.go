package fleettest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
	"phoenix/bridge/fleet/sqlite"
)

func openStore(t *testing.T) fleet.Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "fleet.db"))
}

func openAt(t *testing.T, path string) fleet.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// A wrapper without faults is the store itself, and so is a history that watches.
// Its bad rows of minions are its own; those of masters are in the store, since a
// beat mends them there.
func TestFaultlessIsTheStore(t *testing.T) {
	var mu sync.Mutex
	paths, bad := map[fleet.Store]string{}, map[fleet.Store][]string{}
	open := func(t *testing.T) fleet.Store {
		var h fleettest.History
		t.Cleanup(func() {
			if err := h.Check(); err != nil && !t.Failed() {
				t.Error(err)
			}
		})
		var s fleet.Store
		path := filepath.Join(t.TempDir(), "fleet.db")
		s = fleettest.NewFaulty(h.Watch(openAt(t, path)), func(fleettest.Call) fleettest.Fault {
			mu.Lock()
			defer mu.Unlock()
			return fleettest.Fault{Bad: bad[s]}
		})
		paths[s] = path
		return s
	}
	fleettest.Run(t, open, func(t *testing.T, s fleet.Store, table fleettest.Table, id string) {
		if table == fleettest.Minions {
			mu.Lock()
			defer mu.Unlock()
			bad[s] = append(bad[s], id)
			return
		}
		db, err := sql.Open("sqlite", paths[s])
		if err == nil {
			_, err = db.Exec(`UPDATE masters SET zone = 'spoilt' WHERE instanceid = ?`, id)
			err = errors.Join(err, db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestFaults(t *testing.T) {
	var fault fleettest.Fault
	var calls []fleettest.Call
	real := openStore(t)
	s := fleettest.NewFaulty(real, func(c fleettest.Call) fleettest.Fault {
		calls = append(calls, c)
		return fault
	})
	beat := fleet.Beat{InstanceID: "m"}
	boom := errors.New("boom")
	for _, c := range []struct {
		fault fleettest.Fault
		err   error
		beats int64 // in the store afterwards
	}{
		{fleettest.Fault{}, nil, 1},
		{fleettest.Fault{Before: boom}, boom, 1},
		{fleettest.Fault{After: boom}, boom, 2},
		{fleettest.Fault{Twice: true}, nil, 4},
		{fleettest.Fault{Twice: true, After: boom}, boom, 6},
	} {
		fault = c.fault
		_, err := s.Beat(t.Context(), beat)
		rows, errRead := real.Masters(t.Context())
		if !errors.Is(err, c.err) || errRead != nil || len(rows) != 1 || rows[0].Heartbeat != c.beats {
			t.Errorf("%+v: %v, %+v, %v; want %v and %d beats", c.fault, err, rows, errRead, c.err, c.beats)
		}
	}

	// Every method suffers.
	fault, calls = fleettest.Fault{Before: boom}, nil
	ctx := t.Context()
	_, e1 := s.Minion(ctx, "i")
	_, e2 := s.Minions(ctx, []string{"i"})
	_, e3 := s.Apply(ctx, []fleet.Change{fleet.Add{InstanceID: "i"}})
	e4 := s.ByStatus(ctx, fleet.Launch, "", func([]fleet.Minion) error { return nil })
	_, e5 := s.Masters(ctx)
	_, e6 := s.Beat(ctx, beat)
	e7 := s.RetireMaster(ctx, "m")
	e8 := s.DrainMaster(ctx, "m", true)
	_, e9 := s.Prune(ctx)
	_, e10 := s.Proofs(ctx, []string{"arn"})
	for i, err := range []error{e1, e2, e3, e4, e5, e6, e7, e8, e9, e10} {
		if !errors.Is(err, boom) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if len(calls) != 10 || calls[2].Method != "Apply" || len(calls[2].Changes) != 1 || calls[6].N != calls[0].N+6 {
		t.Errorf("calls: %+v", calls)
	}
}

// A claim whose answer is lost, and that is told again, is the claimer's: not lost
// to itself, not taken twice.
func TestLostAnswerOfClaim(t *testing.T) {
	var h fleettest.History
	lose := true
	s := fleettest.NewFaulty(h.Watch(openStore(t)), func(c fleettest.Call) fleettest.Fault {
		if _, isClaim := first(c.Changes).(fleet.Claim); !isClaim || !lose {
			return fleettest.Fault{}
		}
		lose = false
		return fleettest.Fault{Twice: true, After: fleet.ErrUnavailable}
	})
	if _, err := fleet.ApplyOne(t.Context(), s, fleet.Add{InstanceID: "i"}); err != nil {
		t.Fatal(err)
	}
	claim := fleet.Claim{InstanceID: "i", Owner: "m1", Incarnation: "1", JID: "j", Attempt: 1}
	if _, err := fleet.ApplyOne(t.Context(), s, claim); !errors.Is(err, fleet.ErrUnavailable) {
		t.Fatal(err)
	}
	other := claim
	other.Owner = "m2"
	if _, err := fleet.ApplyOne(t.Context(), s, other); !errors.Is(err, fleet.ErrConflict) {
		t.Error(err)
	}
	row, err := fleet.ApplyOne(t.Context(), s, claim)
	if err != nil || row.ClaimVersion != 1 || row.ClaimOwner != "m1" {
		t.Errorf("told again: %v, %+v", err, row)
	}
	if err := h.Check(); err != nil {
		t.Error(err)
	}
}

func first(changes []fleet.Change) fleet.Change {
	if len(changes) == 0 {
		return nil
	}
	return changes[0]
}

func TestDelayEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fleettest.NewFaulty(nil, func(fleettest.Call) fleettest.Fault { return fleettest.Fault{Delay: time.Hour} })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := s.Masters(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

// The same seed gives the same faults, each about as often as asked for.
func TestSeeded(t *testing.T) {
	const calls = 2000
	draw := func(seed uint64, r fleettest.Rates) (faults []string, before, after, twice, delay int) {
		plan := fleettest.Seeded(seed, r)
		for n := range calls {
			f := plan(fleettest.Call{N: n, Method: "Apply"})
			faults = append(faults, fmt.Sprint(f))
			for _, c := range []struct {
				hit   bool
				count *int
			}{{f.Before != nil, &before}, {f.After != nil, &after}, {f.Twice, &twice}, {f.Delay > 0, &delay}} {
				if c.hit {
					*c.count++
				}
			}
		}
		return
	}
	rates := fleettest.Rates{Before: 0.1, After: 0.2, Twice: 0.3, Delay: 0.4, MaxDelay: time.Second}
	a, before, after, twice, delay := draw(1, rates)
	b, _, _, _, _ := draw(1, rates)
	c, _, _, _, _ := draw(2, rates)
	if !slices.Equal(a, b) || slices.Equal(a, c) {
		t.Error("the seed does not decide")
	}
	for name, got := range map[string][2]int{"before": {before, 200}, "after": {after, 400}, "twice": {twice, 600},
		"delay": {delay, 800}} {
		if got[0] < got[1]*8/10 || got[0] > got[1]*12/10 {
			t.Errorf("%s: %d of %d calls, want about %d", name, got[0], calls, got[1])
		}
	}
}
