package autoscaling

import (
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// TestG12BadRowHoldsNoMessageUp: a message about a row that cannot be decoded comes
// again; all others, and those after it, are applied at once.
func TestG12BadRowHoldsNoMessageUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := func(fleettest.Call) fleettest.Fault { return fleettest.Fault{Bad: []string{instance(2)}} }
		x := newRig(t, bad, Item{"", "q"}, webAndMasters...)
		defer x.stop()
		for i := 1; i <= 3; i++ {
			x.send(message("TERMINATE", instance(i), "web", time.Now()))
		}
		// an old one, whose row is looked up
		x.send(message("LAUNCH", instance(2), "web", time.Now().Add(-2*time.Hour)))
		time.Sleep(time.Second)
		x.send(message("LAUNCH", instance(4), "web", time.Now()))
		time.Sleep(time.Second)
		synctest.Wait()
		for n, want := range map[int]fleet.Status{1: fleet.Terminate, 3: fleet.Terminate, 4: fleet.Launch} {
			if got := statusOf(t, x.store, instance(n)); got != want {
				t.Errorf("row %d says %q, want %q", n, got, want)
			}
		}
		if got := x.reader.Stats(); got.Applied != 3 || got.Transient == 0 {
			t.Errorf("%+v", got)
		}
	})
}

// TestG12BadRowStopsNoPass: what EC2 says of others is carried out.
func TestG12BadRowStopsNoPass(t *testing.T) {
	bad := []string{}
	x := newPlace(t, 4, func(fleettest.Call) fleettest.Fault { return fleettest.Fault{Bad: bad} })
	bad = []string{instance(1), instance(9)}
	x.instances[instance(9)], x.groups["web"][instance(9)] = fakeInstance{"running", time.Now().Add(time.Hour)},
		"InService"
	x.instances[instance(8)], x.groups["web"][instance(8)] = fakeInstance{"running", time.Now().Add(time.Hour)},
		"InService"
	x.end(0, 1)
	x.pass(t, 2)
	if got := statusOf(t, x.store, instance(0)); got != fleet.Terminate {
		t.Errorf("the one that ended is %q", got)
	}
	if got := statusOf(t, x.store, instance(8)); got != fleet.Launch {
		t.Errorf("the one that nobody told of is %q", got)
	}
}
