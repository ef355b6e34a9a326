package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/lab"
)

// TestG9_ExistingFleet: Phoenix comes to a master that has accepted 20 minions
// before, three of which are connected.
func TestG9_ExistingFleet(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
	a := adoption{lab: l, master: master, bridge: l.NewBridge(lab.BridgeOptions{Master: master})}
	for i := range 3 {
		a.minions = append(a.minions, l.StartMinion(lab.MinionOptions{
			ID: fmt.Sprintf("old-%d", i), Masters: []*lab.Master{master}}))
	}
	master.Ready()
	for i := range 17 {
		master.RequestAuth(fmt.Sprintf("away-%02d", i), lab.UnknownKey())
	}
	l.Eventually(within, "20 keys are pending", func() (bool, string) {
		return len(master.Pending()) == 20, fmt.Sprint(master.Pending())
	})
	master.Run("salt-key", "--yes", "--accept-all")
	for _, m := range a.minions {
		m.Answers(master)
	}
	before := a.keys(t)

	a.bridge.Start()
	a.bridge.Ready()
	a.stands(t, "the bridge started", map[decide.Phase]int{decide.PhaseForeign: 20})

	said := a.bridge.Phoenix("adopt", "--dry-run")
	if !strings.Contains(said, "would be adopted 20, known 0, passed over 0; highstates run 0, keys deleted 0") {
		t.Errorf("adopt --dry-run says\n%s", said)
	}
	a.stands(t, "adopt --dry-run", map[decide.Phase]int{decide.PhaseForeign: 20})

	// A row for a key that is accepted already adopts it, whether or not the
	// command could see that.
	a.bridge.Phoenix("minions", "add", "old-0", "away-00")
	elsewhere := filepath.Join(t.TempDir(), "master")
	if err := os.WriteFile(elsewhere, []byte("root_dir: "+t.TempDir()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	a.bridge.Phoenix("--salt-config", elsewhere, "minions", "add", "old-1", "away-01")
	a.stands(t, "minions add", map[decide.Phase]int{decide.PhaseForeign: 16, decide.PhaseAdopted: 4})

	said = a.bridge.Phoenix("adopt")
	if !strings.Contains(said, "adopted 16, would be adopted 0, known 4, passed over 0; highstates run 0, keys deleted 0") {
		t.Errorf("adopt says\n%s", said)
	}
	a.stands(t, "adopt", map[decide.Phase]int{decide.PhaseAdopted: 20})

	// A new minion is ours; one that an operator lets in by hand is foreign.
	a.bridge.Phoenix("minions", "add", "new-1")
	fresh := l.StartMinion(lab.MinionOptions{ID: "new-1", Masters: []*lab.Master{master}})
	master.RequestAuth("guest", lab.UnknownKey())
	master.Accept("guest")
	a.stands(t, "a new minion and a guest came",
		map[decide.Phase]int{decide.PhaseAdopted: 20, decide.PhaseDone: 1, decide.PhaseForeign: 1})
	if fresh.Runs() != 1 {
		t.Errorf("the new minion ran its highstate %d times", fresh.Runs())
	}

	// Nothing that Phoenix takes for news is a reason to touch the old ones.
	a.bridge.Restart()
	a.minions[0].Restart()
	a.bridge.Ready()
	a.minions[0].Answers(master)
	a.stands(t, "bridge and a minion restarted",
		map[decide.Phase]int{decide.PhaseAdopted: 20, decide.PhaseDone: 1, decide.PhaseForeign: 1})
	l.Never(settle, "a highstate began that nobody asked for", a.anyRan)
	after := a.keys(t)
	for id, was := range before {
		if after[id] != was {
			t.Errorf("key of %s: %+v, before %+v", id, after[id], was)
		}
	}
	if len(after) != 22 {
		t.Errorf("accepted are %v", slices.Sorted(maps.Keys(after)))
	}

	// But for one who asks.
	begun := time.Now()
	a.bridge.Phoenix("highstate", "run", "old-1", "--wait", "60s")
	t.Logf("highstate run --wait: %.1f s", time.Since(begun).Seconds())
	if runs := a.minions[1].RunLog(); len(runs) != 1 || !runs[0].OK || a.minions[0].Runs()+a.minions[2].Runs() != 0 {
		t.Errorf("asked for one highstate; old-1 ran %+v, the others %d and %d", runs, a.minions[0].Runs(),
			a.minions[2].Runs())
	}
	a.stands(t, "highstate run", map[decide.Phase]int{decide.PhaseAdopted: 19, decide.PhaseDone: 2,
		decide.PhaseForeign: 1})
}

type adoption struct {
	lab     *lab.Lab
	master  *lab.Master
	bridge  *lab.Bridge
	minions []*lab.Minion
}

// stands waits until "status" counts minions so, and only so.
func (a adoption) stands(t *testing.T, after string, want map[decide.Phase]int) {
	t.Helper()
	a.lab.Eventually(within, fmt.Sprintf("after %s status says %v", after, want), func() (bool, string) {
		var status struct {
			Minions map[decide.Phase]int `json:"minions"`
			Masters []fleet.Master       `json:"masters"`
		}
		a.bridge.JSON(&status, "status")
		maps.DeleteFunc(status.Minions, func(_ decide.Phase, n int) bool { return n == 0 })
		return maps.Equal(status.Minions, want), fmt.Sprint(status.Minions)
	})
}

func (a adoption) anyRan() (bool, string) {
	for _, m := range a.minions {
		if m.Runs() != 0 {
			return true, fmt.Sprintf("%s: %+v", m.ID, m.RunLog())
		}
	}
	return false, ""
}

// keyFile is all that shows whether somebody touched a key.
type keyFile struct {
	text, mode string
	modified   time.Time
}

func (a adoption) keys(t *testing.T) map[string]keyFile {
	t.Helper()
	files := map[string]keyFile{}
	for _, id := range a.master.Accepted() {
		path := filepath.Join(a.master.PKIDir(), "minions", id)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		files[id] = keyFile{string(text), info.Mode().String(), info.ModTime()}
	}
	return files
}
