package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/lab"
)

// others are the known minions that a replacement is warm with besides the one
// that the impostor is after.
const others = 2000

// TestG3_ImpostorAtReplacement: the master is lost, and with it its key store.
// The one that takes its place and its address knows from the fleet which key
// belongs to whom, whoever asks first. The key store of 3008 is not that of
// the other two.
func TestG3_ImpostorAtReplacement(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007, lab.Salt3008) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			replaced(t, version)
		})
	}
}

func replaced(t *testing.T, version string) {
	l := lab.New(t)
	lost := l.StartMaster(lab.MasterOptions{Version: version})
	minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{lost},
		// A minion that is denied for once exits otherwise, for systemd to start
		// it again.
		Extra: map[string]any{"rejected_retry": true}})
	lost.Ready()
	acceptUnknown(t, lost, others)
	bridge := l.StartBridge(lab.BridgeOptions{Master: lost})
	bridge.Ready()
	bridge.Phoenix("minions", "add", "web-1")
	bridge.Phoenix("adopt", "--json")
	var before fleet.Minion
	l.Eventually(within, "the highstate of web-1 is on record", func() (bool, string) {
		before = bridge.Minions()["web-1"]
		return before.HighstateRan, fmt.Sprintf("%+v", before)
	})
	minion.Kill()
	bridge.Kill()
	lost.Kill()

	master := l.StartMaster(lab.MasterOptions{Version: version, Addr: lost.Addr, KeyFrom: lost, Workers: 3})
	master.Ready()
	if accepted := master.Accepted(); len(accepted) != 0 {
		t.Fatalf("the replacement is to know nobody, and knows %v", accepted)
	}
	impostor := impersonate(t, master, "web-1")
	l.Eventually(within, "the impostor's key is pending", func() (bool, string) {
		return slices.Equal(master.Pending(), []string{"web-1"}), fmt.Sprint(master.Pending())
	})

	// It was pending before the bridge started.
	bridge = l.NewBridge(lab.BridgeOptions{Master: master})
	begun := time.Now()
	bridge.Start()
	l.Eventually(within, master.ID+" is ready, says masters list", func() (bool, string) {
		var masters []fleet.Master
		bridge.JSON(&masters, "masters", "list")
		i := slices.IndexFunc(masters, func(m fleet.Master) bool { return m.InstanceID == master.ID && m.Ready })
		return i >= 0, fmt.Sprintf("%+v\n%s", masters, bridge.Tail())
	})
	t.Logf("Salt %s: warm with %d known keys, and ready, %.1f s after the start of the bridge",
		version, others+1, time.Since(begun).Seconds())
	if n := len(master.Accepted()); n != others+1 {
		t.Errorf("%d keys are accepted, not %d", n, others+1)
	}
	served := func(when string) {
		t.Helper()
		minion.Start()
		l.Eventually(within, "web-1 is accepted", func() (bool, string) {
			return master.HasAccepted("web-1"), bridge.Tail()
		})
		minion.Answers(master)
		if text, err := os.ReadFile(filepath.Join(master.PKIDir(), "minions", "web-1")); err != nil ||
			string(text) != before.PublicKey {
			t.Fatalf("%s: %v; accepted is\n%s\nand known\n%s", when, err, text, before.PublicKey)
		}
		impostor.outside(t)
	}
	denied := impostor.heard("denied")
	l.Eventually(within, "the impostor is denied", func() (bool, string) {
		return impostor.heard("denied") > denied, fmt.Sprint(impostor.acts)
	})
	served("pending before the start")

	// It asks first on a running bridge, at a master that has lost the key.
	minion.Kill()
	pended := impostor.heard("pend")
	if err := os.Remove(filepath.Join(master.PKIDir(), "minions", "web-1")); err != nil {
		t.Fatal(err)
	}
	l.Eventually(within, "the impostor's key was pending, again and again", func() (bool, string) {
		return impostor.heard("pend") > pended+2, fmt.Sprint(impostor.acts)
	})
	// What was deleted by hand is an admin's to bring back.
	bridge.Phoenix("keys", "restore", "web-1")
	served("asked first")

	after := bridge.Minions()["web-1"]
	if after.KeySHA256 != before.KeySHA256 || after.ClaimVersion != before.ClaimVersion || minion.Runs() != 1 {
		t.Errorf("ran %d times; row %+v\nbefore %+v", minion.Runs(), after, before)
	}
}

// acceptUnknown lays n keys into a master's key store as accepted.
func acceptUnknown(t *testing.T, master *lab.Master, n int) {
	t.Helper()
	for i := range n {
		path := filepath.Join(master.PKIDir(), "minions", fmt.Sprintf("other-%04d", i))
		if err := os.WriteFile(path, []byte(lab.UnknownKey()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
