package fleettest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"phoenix/bridge/fleet"
)

// heals: of those who saw the same record one alone may write over it, and one who
// asks again after its answer was lost is still that one.
func heals(t *testing.T, ctx context.Context, s fleet.Store) {
	s = inner(s)
	h, is := s.(fleet.Heals)
	if !is {
		t.Fatalf("%T keeps no record of heals", s)
	}
	if last, err := h.LastHeal(ctx); err != nil || last != (fleet.Heal{}) {
		t.Fatalf("at first %+v, %v", last, err)
	}
	for round := range int64(3) {
		var mu sync.Mutex
		winner := ""
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				id := fmt.Sprintf("i-%d", i)
				now, mine, err := h.ClaimHeal(ctx, id, round)
				if err != nil {
					t.Errorf("%s: %v", id, err)
					return
				}
				if now.Count != round+1 || mine != (now.InstanceID == id) {
					t.Errorf("%s: %+v, mine %v", id, now, mine)
				}
				if mine {
					mu.Lock()
					defer mu.Unlock()
					if winner != "" {
						t.Errorf("%s and %s both", winner, id)
					}
					winner = id
				}
			})
		}
		group.Wait()
		last, err := h.LastHeal(ctx)
		if want := (fleet.Heal{Count: round + 1, InstanceID: winner}); err != nil || last != want {
			t.Errorf("%+v, %v; want %+v", last, err, want)
		}
		if now, mine, err := h.ClaimHeal(ctx, winner, round); !mine || err != nil || now.Count != round+1 {
			t.Errorf("asked again: %+v, mine %v, %v", now, mine, err)
		}
		if _, mine, err := h.ClaimHeal(ctx, "i-9", round); mine || err != nil {
			t.Errorf("what was seen is old: mine %v, %v", mine, err)
		}
	}
}

// inner returns the store that others wrap.
func inner(s fleet.Store) fleet.Store {
	for {
		if w, is := s.(*watched); is {
			s = w.Store
		} else if f, is := s.(*Faulty); is {
			s = f.Store
		} else {
			return s
		}
	}
}
