package autoscaling

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

// TestFailuresInRow: a success ends the row of failures, and what belongs to another
// group, never ran or is adopted does not count.
func TestFailuresInRow(t *testing.T) {
	failed := fleet.Minion{Status: fleet.Terminate, ClaimState: fleet.Failed, Attempt: 3}
	hung := fleet.Minion{Status: fleet.Terminate, ClaimState: fleet.Claimed, Attempt: 1}
	kept := fleet.Minion{Status: fleet.Launch, ClaimState: fleet.Failed, Attempt: 3}
	tried := fleet.Minion{Status: fleet.Launch, ClaimState: fleet.Failed, Attempt: 2}
	runs := fleet.Minion{Status: fleet.Launch, ClaimState: fleet.Claimed, Attempt: 1}
	fine := fleet.Minion{Status: fleet.Launch, ClaimState: fleet.Done, Attempt: 1, HighstateRan: true}
	gone := fleet.Minion{Status: fleet.Terminate, ClaimState: fleet.Done, Attempt: 1, HighstateRan: true}
	never := fleet.Minion{Status: fleet.Terminate}
	adopted := fleet.Minion{Status: fleet.Terminate, HighstateRunner: fleet.RunnerAdopted, Attempt: 1}
	for name, c := range map[string]struct {
		rows []fleet.Minion // in the order in which they changed
		want int
	}{
		"none":               {nil, 0},
		"three":              {[]fleet.Minion{failed, hung, kept}, 3},
		"a success between":  {[]fleet.Minion{failed, failed, fine, failed}, 1},
		"a success last":     {[]fleet.Minion{failed, failed, fine}, 0},
		"old ones scaled in": {[]fleet.Minion{failed, gone, failed}, 2},
		"one runs":           {[]fleet.Minion{failed, runs}, 1},
		"some tried again":   {[]fleet.Minion{tried, failed, tried}, 1},
		"never came":         {[]fleet.Minion{never, adopted}, 0},
	} {
		for i := range c.rows {
			c.rows[i].InstanceID, c.rows[i].Group = instance(i+2), "web"
			c.rows[i].Modified = fmt.Sprintf("2026-01-01T00:00:%02d.000Z", i)
		}
		rows := append(c.rows, fleet.Minion{InstanceID: instance(99), Group: "db", Status: fleet.Terminate,
			ClaimState: fleet.Failed, Attempt: 3},
			fleet.Minion{InstanceID: instance(1), Group: "web", Status: fleet.Launch,
				ClaimState: fleet.Failed, Attempt: 3})
		if got := failuresInRow(rows, "web", instance(1), 3); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestLaunchFailuresAreKept: after as many failed launches of its group as are allowed,
// an instance is not given up but kept, and reported for an hour. Failures half an hour
// apart, as of states that hang until the hook's timeout, count together. A day later
// the next one is replaced again.
func TestLaunchFailuresAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.hooks.cfg.LaunchFailures = 2
		for i := 3; i <= 4; i++ { // two before it failed, and were terminated
			id := instance(i)
			x.apply(t, fleet.Add{InstanceID: id, Group: "web"},
				fleet.Bind{InstanceID: id, KeySHA256: "k", PublicKey: "p"},
				fleet.Claim{InstanceID: id, Owner: "m", JID: "j" + id, Attempt: 1},
				fleet.Finish{InstanceID: id, JID: "j" + id, Outcome: fleet.Erred, Retcode: 2},
				fleet.Retire{InstanceID: id})
			time.Sleep(33 * time.Minute)
		}
		x.apply(t, append([]fleet.Change{added, bound}, append(failed(0, "j1", 1), failed(2, "j2", 2)...)...)...)
		x.hooks.Tend(waiting, Minions)
		time.Sleep(checkEvery)
		synctest.Wait()
		if got := fmt.Sprint(x.results()); got != "[CONTINUE]" {
			t.Errorf("after two failures in a row: %s", got)
		}
		if got := x.hooks.Kept(); len(got) != 1 || got[0] != instance(1) {
			t.Errorf("kept %v", got)
		}
		if x.trail.count("launching instance kept") != 1 {
			t.Errorf("trail:\n%s", x.trail.text.String())
		}
		time.Sleep(keptShown + time.Minute)
		if got := x.hooks.Kept(); len(got) != 0 {
			t.Errorf("still reported: %v", got)
		}
		time.Sleep(failuresFor)
		x.hooks.Tend(waiting, Minions) // its row says the same as that of another that fails now
		time.Sleep(checkEvery)
		synctest.Wait()
		if got := fmt.Sprint(x.results()); got != "[CONTINUE ABANDON]" {
			t.Errorf("a day later: %s", got)
		}
	})
}
