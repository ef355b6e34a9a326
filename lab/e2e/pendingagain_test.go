package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"phoenix/lab"
)

// TestAcceptedKeyPendingAgain pins that Salt 3008 refuses a minion whose key is accepted
// and pending at once, as a worker leaves it that looked for the key just before it was
// accepted. The bridge removes the pending one at the minion's next auth request, and
// accepts nothing twice.
func TestAcceptedKeyPendingAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, lab.Salt3008)
	l, master, bridge := f.lab, f.master, f.bridge
	bridge.Phoenix("minions", "add", "web-1")
	minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
	f.ran(t, minion, 1)
	minion.Stop()
	bridge.Stop()
	pending := filepath.Join(master.PKIDir(), "minions_pre", "web-1")
	if err := os.WriteFile(pending, []byte(minion.PublicKey()), 0o600); err != nil {
		t.Fatal(err)
	}

	refused := func() int { return len(master.Grep("Authentication failed from host web-1")) }
	before := refused()
	minion.Start()
	l.Eventually(within, "it is refused again and again", func() (bool, string) {
		return refused() > before+2, master.Tail()
	})
	bridge.Start()
	bridge.Ready()
	minion.Answers(master)
	if !slices.Equal(master.Accepted(), []string{"web-1"}) || len(master.Pending()) > 0 {
		t.Errorf("accepted %v, pending %v", master.Accepted(), master.Pending())
	}
	if n := minion.Runs(); n != 1 {
		t.Errorf("its highstate ran %d times", n)
	}
}
