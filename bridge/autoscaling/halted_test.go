package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

// An instance whose first highstate waits for the circuit breaker is extended, for
// hours, and a store that does not answer ends no hook. Once the breaker is closed the
// instance has the hook's timeout to get on.
func TestLaunchHookWaitsForBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		var open, away atomic.Bool
		open.Store(true)
		x.hooks.cfg.Halted = func(context.Context) (bool, error) {
			if away.Load() {
				return false, errors.New("the store is away")
			}
			return open.Load(), nil
		}
		x.apply(t, append([]fleet.Change{added, bound}, failed(0, "j1", 1)...)...)
		x.hooks.Tend(waiting, Minions)
		time.Sleep(5 * hookTimeout)
		synctest.Wait()
		if n := x.count("RecordLifecycleActionHeartbeat"); n < 5 || len(x.results()) != 0 {
			t.Errorf("%d heartbeats, ended with %v", n, x.results())
		}
		away.Store(true)
		time.Sleep(2 * hookTimeout)
		synctest.Wait()
		if len(x.results()) != 0 {
			t.Errorf("the store is away: %v", x.results())
		}
		away.Store(false)
		time.Sleep(2 * checkEvery)
		open.Store(false)
		time.Sleep(hookTimeout - time.Minute)
		synctest.Wait()
		if len(x.results()) != 0 {
			t.Errorf("ended with %v as soon as it was closed", x.results())
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := fmt.Sprint(x.results()); got != "[ABANDON]" {
			t.Errorf("nothing in the hook's timeout: %s", got)
		}
	})
}

// What the breaker does not stop ends a hook as always: a highstate that succeeds, one
// that hangs, one whose attempts are used up, and one that an operator asked for.
func TestBreakerEndsNoOtherWait(t *testing.T) {
	for name, c := range map[string]struct {
		changes []fleet.Change
		want    string
	}{
		"succeeds": {[]fleet.Change{claimed, done}, "[CONTINUE]"},
		"hangs":    {[]fleet.Change{claimed}, "[ABANDON]"},
		"fails":    {append(failed(0, "j1", 1), failed(2, "j2", 2)...), "[ABANDON]"},
		"by hand":  {[]fleet.Change{fleet.Rerun{InstanceID: instance(1)}}, "[ABANDON]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newKeeper(t)
				defer x.stop()
				x.hooks.cfg.Halted = func(context.Context) (bool, error) { return true, nil }
				x.apply(t, append([]fleet.Change{added, bound}, c.changes...)...)
				x.hooks.Tend(waiting, Minions)
				time.Sleep(2 * hookTimeout)
				synctest.Wait()
				if got := fmt.Sprint(x.results()); got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
			})
		})
	}
}
