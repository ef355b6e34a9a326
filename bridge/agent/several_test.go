//go:build !race

// As thousands_test.go: a bubble with so many timers can end the race detector itself,
// and the process with it, without a word (Go 1.26.8, seen on a busy machine).

package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// several runs as many agents in one bubble.
func several(t *testing.T, masters, agents int, before func(s *simAgent), test func(w *world, agents []*simAgent)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(masters)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		var all []*simAgent
		for i := range agents {
			s := w.newAgent(t, fmt.Sprintf("i-%017x", i), nil)
			before(s)
			all = append(all, s)
			running.Go(func() { s.run(ctx, t) })
		}
		test(w, all)
		cancel()
		running.Wait()
	})
}

// bunched is how many of these happen within the same five seconds at most.
func bunched(times []time.Time) (most int) {
	slices.SortFunc(times, time.Time.Compare)
	for i, first := range times {
		n := 0
		for _, at := range times[i:] {
			if at.Sub(first) < 5*time.Second {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// One of two masters is lost long after the list was written that the minions are
// to be restarted with: they wait from the loss on, each for as long as it draws.
func TestOneLeftOfAnOldDebt(t *testing.T) {
	settings := func(s *simAgent) { s.Follow, s.Settle = 2, 1000*time.Hour }
	several(t, 3, 60, settings, func(w *world, agents []*simAgent) {
		wait(5 * time.Minute)
		w.join()
		wait(time.Hour)
		var waiting []*simAgent
		lost := w.masters[0]
		for _, s := range agents {
			owes, listed := must(s.file.PendingRestart()).Pending, addressesOf(must(s.file.Read()).Masters)
			if owes && slices.Contains(s.minion.running, lost.address) && !slices.Contains(listed, lost.address) {
				waiting = append(waiting, s)
			}
		}
		if len(waiting) < 5 {
			t.Fatalf("%d minions wait", len(waiting))
		}
		died := time.Now()
		w.set(func() { lost.died, lost.vanished = died, true })
		wait(oneLeftMost + 3*time.Minute)
		var restarts []time.Time
		for _, s := range waiting {
			at := s.minion.since(died)
			if len(at) != 1 || at[0].Sub(died) < oneLeftLeast {
				t.Errorf("restarts %v, the master died at %v", at, died)
			}
			restarts = append(restarts, at...)
		}
		if n := bunched(restarts); n > len(waiting)/2 {
			t.Errorf("%d of %d minions are restarted within five seconds", n, len(waiting))
		}
	})
}

// Agents that were away take over debts that are older than agent.settle.
func TestOldDebtsAreSpread(t *testing.T) {
	list := NewList(master("i-00000001", "10.0.0.1"), master("i-00000002", "10.0.0.2"))
	for _, running := range []Running{
		{Masters: []string{"10.0.0.1"}},
		{Masters: []string{"10.0.0.1", "10.0.0.9"}, Hot: true}, // one is left
	} {
		left := func(s *simAgent) {
			if running.Hot {
				list, s.Follow = list.Hot(), FollowAll
			}
			f := s.file.(*memory)
			if _, err := f.Write(list, running, ""); err != nil {
				t.Fatal(err)
			}
			f.pending.Since = time.Now().Add(-7 * time.Hour)
			s.minion.start(running.Masters, running.Hot)
		}
		several(t, 2, 60, left, func(w *world, agents []*simAgent) {
			wait(10 * time.Minute)
			var restarts []time.Time
			for _, s := range agents {
				restarts = append(restarts, s.minion.since(w.began)...)
			}
			if n := bunched(restarts); len(restarts) != len(agents) || n > len(agents)/3 {
				t.Errorf("%d restarts, %d of them within five seconds", len(restarts), n)
			}
		})
	}
}
