package autoscaling

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

// beats has a master beat every 5 s until ctx ends, and say whether it is ready and how
// many first highstates wait for a slot of it.
func (x *keeper) beats(ctx context.Context, t *testing.T, ready bool, queued *atomic.Int64) {
	t.Helper()
	go func() {
		for ctx.Err() == nil {
			if _, err := x.store.Beat(ctx,
				fleet.Beat{InstanceID: "m", Ready: ready, Queued: int(queued.Load())}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
		}
	}()
}

// An instance whose first highstate waits for a slot of any master is not abandoned for
// that, however long the queue is. Once nothing waits, it has the hook's timeout.
func TestLaunchHookWaitsForSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var queued atomic.Int64
		queued.Store(7)
		x.beats(ctx, t, true, &queued)
		x.apply(t, added, bound)
		x.hooks.Tend(waiting, Minions)
		time.Sleep(5 * hookTimeout)
		synctest.Wait()
		if n := x.count("RecordLifecycleActionHeartbeat"); n < 5 || len(x.results()) != 0 {
			t.Errorf("%d heartbeats, ended with %v", n, x.results())
		}
		queued.Store(0)
		time.Sleep(hookTimeout - time.Minute)
		synctest.Wait()
		if len(x.results()) != 0 {
			t.Errorf("ended with %v as soon as nothing waited", x.results())
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := fmt.Sprint(x.results()); got != "[ABANDON]" {
			t.Errorf("no progress for the hook's timeout: %s", got)
		}
	})
}

// A queue extends only hooks of instances whose highstate has yet to begin, and a row
// of a master that no longer beats extends none.
func TestQueueExtendsNoOtherHook(t *testing.T) {
	for name, c := range map[string]struct {
		changes []fleet.Change
		dead    bool // the master, after a minute
		unready bool
		want    string
	}{
		"master is gone":        {[]fleet.Change{bound}, true, false, "[ABANDON]"},
		"master does not serve": {[]fleet.Change{bound}, false, true, "[ABANDON]"},
		"highstate hangs":       {[]fleet.Change{bound, claimed}, false, false, "[ABANDON]"},
		"attempts are used up": {append(append([]fleet.Change{bound}, failed(0, "j1", 1)...),
			failed(2, "j2", 2)...), false, false, "[ABANDON]"},
		"highstate succeeded":       {[]fleet.Change{bound, claimed, done}, false, false, "[CONTINUE]"},
		"has sent no auth request":  {nil, false, false, "[]"},
		"waits for another attempt": {append([]fleet.Change{bound}, failed(0, "j1", 1)...), false, false, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newKeeper(t)
				defer x.stop()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var queued atomic.Int64
				queued.Store(7)
				x.beats(ctx, t, !c.unready, &queued)
				x.apply(t, append([]fleet.Change{added}, c.changes...)...)
				x.hooks.Tend(waiting, Minions)
				if c.dead {
					time.Sleep(time.Minute)
					cancel()
				}
				time.Sleep(2 * hookTimeout)
				synctest.Wait()
				if got := fmt.Sprint(x.results()); got != c.want {
					t.Errorf("ended with %s, want %s", got, c.want)
				}
				if n := x.count("RecordLifecycleActionHeartbeat"); c.changes == nil && n != 0 {
					t.Errorf("%d heartbeats for one that has sent no auth request", n)
				}
			})
		})
	}
}
