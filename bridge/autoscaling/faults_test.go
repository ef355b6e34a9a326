package autoscaling

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// TestG12BadRowIsTold: a comparison passes over rows that cannot be read or written,
// says which, once, and compares all others; a hook of such a row is not ended, and those
// of others are.
func TestG12BadRowIsTold(t *testing.T) {
	bad := []string{}
	x := newPlace(t, 8, func(fleettest.Call) fleettest.Fault { return fleettest.Fault{Bad: bad} })
	bad = []string{instance(3), instance(4)}
	x.end(2, 6)
	x.pass(t, 2)
	bare := x.store.(*fleettest.Faulty).Store
	for n, want := range map[int]fleet.Status{2: fleet.Terminate, 3: fleet.Launch, 4: fleet.Launch,
		5: fleet.Terminate} {
		if got := statusOf(t, bare, instance(n)); got != want {
			t.Errorf("row %d says %q, want %q", n, got, want)
		}
	}
	if r := x.rec.Report(); fmt.Sprint(r.Bad) != fmt.Sprint(bad) || r.Error != "" {
		t.Errorf("%+v", r)
	}
	if n := x.log.count("rows of the fleet are passed over"); n != 1 {
		t.Errorf("%d lines tell of bad rows", n)
	}
	for n := 2; n < 6; n++ {
		x.hooks.Tend(Message{Kind: Ended, InstanceID: instance(n), Group: "web", Hook: downHook}, Minions)
	}
	x.hooks.check(t.Context())
	if n := x.count("CompleteLifecycleAction"); n != 2 || x.hooks.Waiting() != 2 {
		t.Errorf("%d hooks were ended, %d wait", n, x.hooks.Waiting())
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
				for what, want := range map[string]fleet.Status{"launch": fleet.Launch, "end": fleet.Terminate,
					"gone": fleet.Terminate, "old": fleet.Launch} {
					id := map[string]string{"launch": instance(1), "end": instance(2), "gone": instance(3),
						"old": instance(4)}[what]
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
