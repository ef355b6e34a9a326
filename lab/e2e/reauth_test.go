package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"phoenix/lab"
)

// A minion that is retired and added again while it runs authenticates over the connection
// that it has, and sends no start event. Its highstate begins soon after that, and does not
// wait for the next ping of all minions (two minutes).
func TestAddedAgainWhileConnected(t *testing.T) {
	t.Parallel()
	const soon = 100 * time.Second
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, version)
			l, master, bridge := f.lab, f.master, f.bridge
			bridge.Phoenix("minions", "add", "web-1", "web-2")
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
			other := l.StartMinion(lab.MinionOptions{ID: "web-2", Masters: []*lab.Master{master}})
			f.ran(t, minion, 1)
			f.ran(t, other, 1)
			bridge.Phoenix("minions", "retire", "web-1")
			l.Eventually(within, "its key is deleted", func() (bool, string) {
				return !slices.Contains(master.Accepted(), "web-1"), fmt.Sprint(master.Accepted())
			})
			bridge.Phoenix("minions", "add", "--again", "web-1")
			// What is published to another minion reaches this one, too, which cannot read it
			// any more: it authenticates.
			l.Eventually(within, "its key is accepted again", func() (bool, string) {
				master.Run("salt", "web-2", "test.ping")
				return slices.Contains(master.Accepted(), "web-1"), fmt.Sprint(master.Accepted(), master.Pending())
			})
			accepted := time.Now()
			f.ran(t, minion, 2)
			if took := time.Since(accepted); took > soon {
				t.Errorf("its highstate was done %v after its key was accepted", took)
			} else {
				t.Logf("its highstate was done %v after its key was accepted", took.Round(time.Second))
			}
		})
	}
}
