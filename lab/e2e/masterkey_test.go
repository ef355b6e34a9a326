package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"phoenix/lab"
)

// TestMinionAndChangedMasterKey pins what "phoenix identity rotate" leans on. A minion
// whose master comes back with another key refuses it for as long as
// minion_master.pub says the old one, and lives on; it takes the new key without a
// restart once the file says so, also if the file was written while the old master
// still served.
func TestMinionAndChangedMasterKey(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			master := l.StartMaster(lab.MasterOptions{Version: version})
			other := l.StartMaster(lab.MasterOptions{Version: version})
			master.Ready()
			other.Ready()
			minions := map[string]*lab.Minion{
				"told-before": l.StartMinion(lab.MinionOptions{ID: "told-before", Masters: []*lab.Master{master}}),
				"told-after":  l.StartMinion(lab.MinionOptions{ID: "told-after", Masters: []*lab.Master{master}}),
				// 3007.17's alive check, if it fires twice while the only master is away, closes
				// the channel that the minion is connecting. Such a minion hangs for ever,
				// whatever its key; a restart, by its agent, is the cure.
				"failover": l.StartMinion(lab.MinionOptions{ID: "failover", Masters: []*lab.Master{master},
					Failover: true,
					Extra:    map[string]any{"master_alive_interval": 3600}}),
			}
			l.Eventually(within, "all knock", func() (bool, string) {
				return len(master.Pending()) == len(minions), fmt.Sprint(master.Pending())
			})
			master.Run("salt-key", "-y", "-A")
			for _, m := range minions {
				m.Answers(master)
			}
			trust := func(m *lab.Minion, text []byte) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(m.PKIDir(), "minion_master.pub"), text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			fresh, err := os.ReadFile(masterKey(other, ".pub"))
			if err != nil {
				t.Fatal(err)
			}
			trust(minions["told-before"], fresh)
			trust(minions["failover"], fresh)
			for i := range 3 {
				_, ok := master.Call("told-before", "test.ping")
				t.Logf("%s: with the new key on file, a ping of the old master is answered: %v (%d)", version, ok, i)
			}
			_, ok := master.Call("told-before", "pillar.items")
			t.Logf("%s: and pillar.items: %v", version, ok)

			master.Stop()
			for _, suffix := range []string{".pem", ".pub"} {
				text, err := os.ReadFile(masterKey(other, suffix))
				if err != nil {
					t.Fatal(err)
				}
				path := masterKey(master, suffix)
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			master.Start()
			master.Ready()
			began := time.Now()
			for _, id := range []string{"told-before", "failover"} {
				minions[id].Answers(master)
				t.Logf("%s: %s answers the new key after %.0f s", version, id, time.Since(began).Seconds())
			}
			if _, ok := master.Call("told-after", "test.ping"); ok {
				t.Errorf("%s: a minion that was not told answers a master with another key", version)
			}
			t.Logf("%s: told-after: alive %v, %d lines of refusal", version, minions["told-after"].Alive(),
				len(minions["told-after"].Grep("master key has changed")))
			trust(minions["told-after"], fresh)
			began = time.Now()
			minions["told-after"].Answers(master)
			t.Logf("%s: told-after answers %.0f s after it was told", version, time.Since(began).Seconds())
		})
	}
}

// masterKey is where a master has its key: 3008 names it by the master's id.
func masterKey(m *lab.Master, suffix string) string {
	path := filepath.Join(m.PKIDir(), m.ID+suffix)
	if _, err := os.Stat(path); err != nil {
		path = filepath.Join(m.PKIDir(), "master"+suffix)
	}
	return path
}
