package e2e_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"phoenix/lab"
)

// TestMinionWithoutMasters pins what a failover minion does that no master serves. If all
// its masters are away, it waits for them. If its master is away and it refuses the key of
// the other, the process of one of 3006.30 ends, and only the service manager brings it
// back: so masters that change their key leave such a minion the key of the one that Salt
// moves it to, and the package's drop-in starts it again. 3007.17 and 3008.5 try on.
func TestMinionWithoutMasters(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3006) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			first := l.StartMaster(lab.MasterOptions{Version: version})
			first.Ready()
			second := l.StartMaster(lab.MasterOptions{Version: version, KeyFrom: first})
			second.Ready()
			other := l.StartMaster(lab.MasterOptions{Version: version})
			other.Ready()
			start := func(id string) *lab.Minion {
				m := l.StartMinion(lab.MinionOptions{ID: id, Masters: []*lab.Master{first, second}, Failover: true})
				l.Eventually(within, id+" asks to be accepted", func() (bool, string) { return len(first.Pending()) == 1, m.Tail() })
				first.Run("salt-key", "-y", "-A")
				key, err := os.ReadFile(filepath.Join(m.PKIDir(), "minion.pub"))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(second.PKIDir(), "minions", id), key, 0o644); err != nil {
					t.Fatal(err)
				}
				m.Answers(first)
				return m
			}
			waits, refuses := start("waits"), start("refuses")

			first.Kill()
			second.Kill()
			const away = 40 * time.Second // several of its checks of the master, and of its tries
			l.Never(away, "a minion ends whose masters are away", func() (bool, string) {
				return !waits.Alive() || !refuses.Alive(), waits.Tail() + refuses.Tail()
			})
			first.Start()
			second.Start()
			first.Ready()
			second.Ready()
			waits.Answers(first)
			refuses.Answers(first)

			fresh, err := os.ReadFile(masterKey(other, ".pub"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(refuses.PKIDir(), "minion_master.pub"), fresh, 0o644); err != nil {
				t.Fatal(err)
			}
			first.Kill()
			waits.Answers(second)
			if version != lab.Salt3006 {
				return
			}
			l.Eventually(within, "the minion ends that refuses the second master", func() (bool, string) {
				return !refuses.Alive(), refuses.Tail()
			})
			t.Logf("%s: it ended with exit code %d", version, refuses.ExitCode(time.Second))
			if !waits.Alive() {
				t.Errorf("the other one ended, too\n%s", waits.Tail())
			}
		})
	}
}
