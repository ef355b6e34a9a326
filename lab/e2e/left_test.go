package e2e_test

import (
	"fmt"
	"testing"

	"phoenix/bridge/autoscaling"
	"phoenix/lab"
)

// TestMinionsLeft: a terminating master counts the minions that are left on it by the
// connections to its publish port: one for each that follows it, pending ones (who have
// not authenticated yet) not among them, and none for one that is gone, however it went.
func TestMinionsLeft(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			master := l.StartMaster(lab.MasterOptions{Version: version})
			other := l.StartMaster(lab.MasterOptions{Version: version})
			master.Ready()
			other.Ready()
			left := autoscaling.Left(master.Addr, l.PublishPort)
			counts := func(what string, want int) {
				t.Helper()
				l.Eventually(within, what, func() (bool, string) {
					n, err := left()
					return err == nil && n == want, fmt.Sprintf("%d, %v", n, err)
				})
			}
			counts("nobody is there", 0)
			a := l.StartMinion(lab.MinionOptions{ID: "web-1", Version: version, Masters: []*lab.Master{master}})
			b := l.StartMinion(lab.MinionOptions{ID: "web-2", Version: version, Masters: []*lab.Master{master}})
			l.StartMinion(lab.MinionOptions{ID: "web-3", Version: version, Masters: []*lab.Master{other}})
			l.Eventually(within, "both are pending", func() (bool, string) {
				return len(master.Pending()) == 2, fmt.Sprint(master.Pending())
			})
			if n, err := left(); n != 0 || err != nil {
				t.Errorf("%d are counted that are only pending, %v", n, err)
			}
			master.Run("salt-key", "-y", "-A")
			a.Answers(master)
			b.Answers(master)
			counts("both are counted", 2)
			a.Kill()
			counts("one is killed", 1)
			b.Stop()
			counts("the other is stopped", 0)
			master.Kill()
			if n, err := left(); err == nil {
				t.Errorf("%d are counted on a master that is gone", n)
			}
		})
	}
}
