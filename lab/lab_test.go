package lab_test

import (
	"fmt"
	"testing"
	"time"

	"phoenix/lab"
)

// keyTimeout bounds what a minion does within a second or two when the machine
// is its own.
const keyTimeout = 2 * time.Minute

// The lab itself, with Salt's own commands where Phoenix would be.
func TestHighstateIsCountedByTheStateItself(t *testing.T) {
	t.Parallel()
	for _, version := range lab.Versions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			master := l.StartMaster(lab.MasterOptions{Version: version})
			minion := l.StartMinion(lab.MinionOptions{
				ID: "web-1", Masters: []*lab.Master{master}, State: lab.State{Fail: 1},
			})
			master.Ready()
			l.Eventually(keyTimeout, "the minion's key is pending", func() (bool, string) {
				return len(master.Pending()) == 1, fmt.Sprint(master.Pending())
			})
			master.RequestAuth("web-2", minion.PublicKey())
			master.Accept("web-1")
			if pending, accepted := fmt.Sprint(master.Pending()), fmt.Sprint(master.Accepted()); pending != "[web-2]" ||
				accepted != "[web-1]" {
				t.Fatalf("pending %s, accepted %s", pending, accepted)
			}
			minion.Answers(master)
			if minion.Runs() != 0 {
				t.Fatalf("highstate ran by itself: %v", minion.RunLog())
			}
			for run := 1; run <= 2; run++ {
				// On a busy machine the command gives up before the minion has ended.
				master.Call("web-1", "state.highstate")
				var log []lab.Run
				l.Eventually(keyTimeout, "the run ends", func() (bool, string) {
					log = minion.RunLog()
					return len(log) >= run && log[run-1].Ended, fmt.Sprintf("%+v", log)
				})
				if len(log) != run || log[run-1].OK != (run == 2) || len(log[run-1].JID) != 20 {
					t.Fatalf("run %d: %+v", run, log)
				}
			}
		})
	}
}

// Masters that share a key serve one minion at a time or together, and a master
// that was killed comes back.
func TestMastersShareAKey(t *testing.T) {
	t.Parallel()
	for _, version := range lab.Versions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			first := l.StartMaster(lab.MasterOptions{Version: version})
			first.Ready()
			second := l.StartMaster(lab.MasterOptions{Version: version, KeyFrom: first})
			second.Ready()
			both := []*lab.Master{first, second}
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: both})
			for _, master := range both {
				l.Eventually(keyTimeout, "the minion's key is pending", func() (bool, string) {
					return len(master.Pending()) == 1, fmt.Sprint(master.Pending())
				})
				master.Accept("web-1")
			}
			for _, master := range both {
				minion.Answers(master)
			}
			first.Kill()
			first.Start()
			first.Ready()
			minion.Answers(first)
		})
	}
}
