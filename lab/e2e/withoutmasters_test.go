package e2e_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"phoenix/lab"
)

// TestMinionWithoutMasters pins what a failover minion does that no master serves. If all
// its masters are away it waits for them, or its process ends, with exit code 0 (3006.30:
// sometimes, after some 17 s), or it hangs (3008.5, sometimes). If its master is away and it refuses the key of the
// other,
// one of 3006.30 ends as well; 3007.17 and 3008.5 try on. Only the service manager brings
// it back: so the package's drop-in has it started again, and masters that change their key
// leave a minion the key of the one that Salt moves it to.
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
				l.Eventually(within, id+" asks to be accepted",
					func() (bool, string) { return len(first.Pending()) == 1, m.Tail() })
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
			time.Sleep(away)
			first.Start()
			second.Start()
			first.Ready()
			second.Ready()
			for _, m := range []*lab.Minion{waits, refuses} {
				switch {
				case !m.Alive():
					t.Logf("%s: while its masters were away, %s ended with exit code %d", version, m.ID,
						m.ExitCode(time.Second))
					m.Start() // as the service manager does
				case !comesBack(first, m):
					t.Logf("%s: its masters are back for a minute, and %s does not answer\n%s", version, m.ID, m.Tail())
					m.Kill() // as its agent does
					m.Start()
				}
				m.Answers(first)
			}

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

// comesBack reports whether a minion answers a master within a minute.
func comesBack(master *lab.Master, m *lab.Minion) bool {
	for until := time.Now().Add(time.Minute); time.Now().Before(until); {
		if _, ok := master.Call(m.ID, "test.ping"); ok {
			return true
		}
	}
	return false
}
