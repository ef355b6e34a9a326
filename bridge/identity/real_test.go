package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phoenix/lab"
)

// TestRealMasters: what is installed before a master's first start is what it
// serves, under either naming; and a minion told the fingerprint that is shown
// here (master_finger) trusts it. A minion that were shown another key, or had
// another fingerprint, would end.
func TestRealMasters(t *testing.T) {
	for _, version := range []string{lab.Salt3007, lab.Salt3008} {
		t.Run(version, func(t *testing.T) {
			l := lab.New(t)
			// The lab's first master keeps its keys here.
			dir := filepath.Join(l.Dir(), "master1", "etc", "salt", "pki", "master")
			id := Identity{Pair: newPair(t)}
			p, err := Open(Config{PKIDir: dir, User: me(), ID: "master1"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.write(id, false); err != nil {
				t.Fatal(err)
			}
			master := l.StartMaster(lab.MasterOptions{Version: version})
			if master.PKIDir() != dir || master.ID != "master1" {
				t.Fatalf("the master is %s, in %s", master.ID, master.PKIDir())
			}
			finger := Finger(id.Public)
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master},
				Extra: map[string]any{"master_finger": finger}})
			master.Ready()
			l.Eventually(time.Minute, "the minion asks for authentication", func() (bool, string) {
				return len(master.Pending()) == 1, strings.Join(master.Pending(), " ")
			})
			master.Accept("web-1")
			minion.Answers(master)
			served, err := os.ReadFile(filepath.Join(minion.PKIDir(), "minion_master.pub"))
			if err != nil || string(cleanLines(served)) != string(cleanLines(id.Public)) {
				t.Errorf("served %q, %v", served, err)
			}

			// It is still this master's, under the name that this Salt gives it.
			before := inodes(t, dir)
			pair, err := p.Pair()
			if err != nil || pair.Digest != id.Digest {
				t.Fatalf("%v, %v", pair, err)
			}
			if _, err := p.write(id, false); err != nil || inodes(t, dir) != before {
				t.Errorf("touched after Salt's start: %v", err)
			}
			_, err = os.Lstat(p.path("master1.pem"))
			if renamed := err == nil; renamed != strings.HasPrefix(version, "3008") {
				t.Errorf("master1.pem is there: %v", renamed)
			} else if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}

			// salt-key -F shows people the same fingerprint, up to 3007.
			shown := strings.Contains(master.Run("salt-key", "-F", "master"), finger)
			if shown != !strings.HasPrefix(version, "3008") {
				t.Errorf("salt-key -F shows the fingerprint that minions want: %v", shown)
			}
		})
	}
}
