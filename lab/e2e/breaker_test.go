package e2e_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"phoenix/bridge/admin"
	"phoenix/lab"
)

// TestBreaker: one bad commit breaks the states, and six minions want their first
// highstate. With a concurrency of 1 and a breaker of 2/4, of which one master's failures
// are counted by the other, at most three run it; the others wait, their keys accepted.
// The states are repaired and tried on one minion by hand; once an operator resumes, by
// Salt's runner, each has run the repaired states once. Minions, masters and highstates are
// real.
func TestBreaker(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(l.Dir(), "bridge.sock")
	first := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007, Extra: map[string]any{
		"runner_dirs": []string{filepath.Join(root, "salt-extensions", "_runners")},
		"phoenix":     map[string]any{"socket": socket}}})
	first.Ready()
	masters := []*lab.Master{first, l.StartMaster(lab.MasterOptions{Version: lab.Salt3007, KeyFrom: first})}
	masters[1].Ready()
	var bridges []*lab.Bridge
	for _, m := range masters {
		config := map[string]any{"highstate": map[string]any{"concurrency": 1, "attempts": 10, "breaker": "2/4"}}
		if m == first {
			config["socket"] = socket
		}
		b := l.NewBridge(lab.BridgeOptions{Master: m, Config: config})
		b.Start()
		b.Ready()
		bridges = append(bridges, b)
	}
	const fleet, concurrency, failures = 6, 2, 2 // one a master
	var minions []*lab.Minion
	for i := range fleet {
		id := fmt.Sprintf("web-%d", i+1)
		bridges[0].Phoenix("minions", "add", id)
		minions = append(minions, l.StartMinion(lab.MinionOptions{ID: id, Masters: masters[i%2 : i%2+1],
			State: lab.State{Fail: -1}}))
	}
	overview := func(b *lab.Bridge) (o admin.Overview) {
		b.JSON(&o, "status", "--json")
		return o
	}
	open := func() bool { return overview(bridges[1]).Breaker.Open }
	// ran says how often each minion ran its states.
	ran := func() (minionsThatRan, runs int) {
		for _, m := range minions {
			if n := m.Runs(); n > 0 {
				minionsThatRan++
				runs += n
			}
		}
		return minionsThatRan, runs
	}
	// All accepted, none runs, and whoever is left says what it waits for.
	l.Eventually(within, "the breaker is open, and all others wait", func() (bool, string) {
		rows, accepted, under := bridges[0].Minions(), 0, 0
		for _, m := range minions {
			if rows[m.ID].KeySHA256 != "" {
				accepted++
			}
			if rows[m.ID].ClaimState == "claimed" {
				under++
			}
		}
		halted := 0
		for _, b := range bridges {
			if o := overview(b); o.Bridge != nil {
				halted += o.Bridge.Engine.Halted
			}
		}
		return open() && accepted == fleet && under == 0 && halted == fleet,
			fmt.Sprintf("open %v, %d accepted, %d run, %d wait\n%s", open(), accepted, under, halted, bridges[0].Tail())
	})
	broken, runs := ran()
	if broken >= concurrency+failures || broken < failures {
		t.Errorf("%d of %d minions ran the broken states, %d times in all", broken, fleet, runs)
	}
	opened := 0
	for _, b := range bridges {
		opened += len(b.Grep("circuit breaker opened"))
	}
	if opened != 1 {
		t.Errorf("it is said %d times that the breaker opened", opened)
	}
	// The states are repaired, and tried where none ran yet.
	for _, m := range minions {
		m.Behave(lab.State{})
	}
	i := slices.IndexFunc(minions, func(m *lab.Minion) bool { return m.Runs() == 0 })
	tried := minions[i]
	if text := bridges[i%2].Phoenix("minions", "explain", tried.ID); !strings.Contains(text,
		"phoenix highstate resume") {
		t.Errorf("explain says\n%s", text)
	}
	bridges[i%2].Phoenix("highstate", "run", tried.ID)
	l.Eventually(within, "the one asked for by hand has run", func() (bool, string) {
		row := bridges[0].Minions()[tried.ID]
		return row.HighstateRan, fmt.Sprintf("%+v", row)
	})
	if now, again := ran(); now != broken+1 || again != runs+1 || !open() {
		t.Errorf("%d minions ran states, %d times; open %v", now, again, open())
	}
	resume := func() (r admin.Resumed) {
		t.Helper()
		out := first.Run("salt-run", "--out=json", "phoenix.resume")
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("salt-run phoenix.resume: %v\n%s", err, out)
		}
		return r
	}
	if r := resume(); !r.WasOpen || r.Breaker.Open {
		t.Errorf("salt-run phoenix.resume: %+v", r)
	}
	if r := resume(); r.WasOpen {
		t.Errorf("salt-run phoenix.resume, once more: %+v", r)
	}
	l.Eventually(within, "all have run", func() (bool, string) {
		rows, done := bridges[0].Minions(), 0
		for _, m := range minions {
			if rows[m.ID].HighstateRan {
				done++
			}
		}
		return done == fleet, fmt.Sprintf("%d of %d", done, fleet)
	})
	for i, m := range minions {
		good := 0
		for _, r := range m.RunLog() {
			if r.OK {
				good++
			}
		}
		if good != 1 {
			t.Errorf("minion %d ran the repaired states %d times: %+v", i, good, m.RunLog())
		}
	}
	if b := overview(bridges[1]).Breaker; b.Open || b.ResumedBy != "socket" {
		t.Errorf("%+v", b)
	}
	_, all := ran()
	t.Logf("%d of %d minions ran the broken states, %d times; %d runs in all", broken, fleet, runs, all)
}
