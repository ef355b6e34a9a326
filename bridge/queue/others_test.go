package queue

import (
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

// TestHookWaitsForOtherMasters: a terminating instance goes once its key is gone
// from all masters that live, by their own word, and not before.
func TestHookWaitsForOtherMasters(t *testing.T) {
	for name, c := range map[string]struct {
		other func(n int) *fleet.Beat // its beat every 5 s; nil: it is silent
		from  time.Duration           // the hook is ended in between
		to    time.Duration
	}{
		"none": {nil, 0, time.Second},
		"clears each minute": {func(n int) *fleet.Beat { return &fleet.Beat{Incarnation: "1", Cleared: 7 + int64(n)/12} },
			time.Minute, 2*time.Minute + 2*lookEvery},
		"never clears": {func(int) *fleet.Beat { return &fleet.Beat{Incarnation: "1", Cleared: 7} },
			keyWithin, keyWithin + 2*lookEvery},
		"starts anew": {func(n int) *fleet.Beat {
			if n < 6 {
				return &fleet.Beat{Incarnation: "1", Cleared: 7}
			}
			return &fleet.Beat{Incarnation: "2", Cleared: int64(n-6) / 12}
		}, 2 * time.Minute, 3*time.Minute + 2*lookEvery},
		"dies": {func(n int) *fleet.Beat {
			if n > 6 {
				return nil
			}
			return &fleet.Beat{Incarnation: "1", Cleared: 7}
		}, deadAfter, deadAfter + time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newKeeper(t)
				defer x.stop()
				x.hooks.cfg.Self = instance(2)
				beat := func(n int) {
					t.Helper()
					beats := []fleet.Beat{{InstanceID: instance(2), Incarnation: "1"}} // our own says nothing here
					if c.other != nil {
						if b := c.other(n); b != nil {
							b.InstanceID = instance(3)
							beats = append(beats, *b)
						}
					}
					for _, b := range beats {
						if _, err := x.store.Beat(t.Context(), b); err != nil {
							t.Fatal(err)
						}
					}
				}
				beat(0)
				if c.other != nil { // one that ended is not waited for
					if err := x.store.RetireMaster(t.Context(), instance(4)); err != nil {
						t.Fatal(err)
					}
				}
				x.apply(t, fleet.Add{InstanceID: instance(1)}, fleet.Retire{InstanceID: instance(1), HookName: "down"})
				x.gone.Store(true)
				begun := time.Now()
				x.hooks.Tend(leaving)
				for n := 1; n < 100; n++ {
					synctest.Wait()
					if len(x.results()) > 0 {
						break
					}
					time.Sleep(5 * time.Second)
					beat(n)
				}
				calls := x.of("CompleteLifecycleAction")
				if len(calls) != 1 {
					t.Fatalf("ended %d times", len(calls))
				}
				if took := calls[0].at.Sub(begun); took < c.from || took > c.to {
					t.Errorf("ended after %v, want %v to %v", took, c.from, c.to)
				}
			})
		})
	}
}
