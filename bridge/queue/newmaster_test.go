package queue

import (
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

// TestNewMasterGoesInServiceWhenReady: a launching master waits until minions can
// turn to it, whatever becomes of its own minion's highstate; then its group may end
// another one.
func TestNewMasterGoesInServiceWhenReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.hooks.cfg.Groups = webAndMasters
		beat := fleet.Beat{InstanceID: instance(1), IPAddr: "10.0.0.1", Incarnation: "one"}
		alive := func() {
			t.Helper()
			if _, err := x.store.Beat(t.Context(), beat); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * lookEvery)
			synctest.Wait()
		}
		launching := Message{Kind: Launched, InstanceID: instance(1), Group: "salt", Hook: "up"}
		x.apply(t, added, bound, claimed, fleet.Finish{InstanceID: instance(1), JID: "j1", Outcome: fleet.Erred, Retcode: 2})
		x.hooks.Tend(launching)
		alive()
		x.apply(t, fleet.Claim{InstanceID: instance(1), From: 2, Owner: "m", JID: "j2", Attempt: 2},
			fleet.Finish{InstanceID: instance(1), JID: "j2", Outcome: fleet.Erred, Retcode: 2})
		alive()
		if got := x.results(); len(got) != 0 || x.hooks.Waiting() != 1 {
			t.Errorf("before it is ready, its highstate failed for good: %v, %d wait", got, x.hooks.Waiting())
		}
		beat.Ready = true
		alive()
		if got := x.results(); len(got) != 1 || got[0] != goOn || x.hooks.Waiting() != 0 {
			t.Errorf("once it is ready: %v, %d wait", got, x.hooks.Waiting())
		}
	})
}

// TestNewMasterThatIsTerminated: nobody tends its hook any more.
func TestNewMasterThatIsTerminated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.hooks.cfg.Groups = webAndMasters
		x.apply(t, added, fleet.Retire{InstanceID: instance(1)})
		x.hooks.Tend(Message{Kind: Launched, InstanceID: instance(1), Group: "salt", Hook: "up"})
		time.Sleep(lookEvery)
		synctest.Wait()
		if len(x.calls) != 0 || x.hooks.Waiting() != 0 {
			t.Errorf("%d calls, %d wait", len(x.calls), x.hooks.Waiting())
		}
	})
}
