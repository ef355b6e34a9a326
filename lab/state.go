package lab

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// stateModule is the state that the highstate of every minion applies: it
// counts itself.
//
//go:embed state.py
var stateModule string

// State is how a minion's highstate behaves.
type State struct {
	Hold    bool    `json:"-"`       // it waits for [Minion.Release] first
	Seconds float64 `json:"seconds"` // how long it takes
	Fail    int     `json:"fail"`    // its first runs that fail; negative: all
}

// Run is one run of a minion's highstate, as the state itself noted it.
type Run struct {
	JID   string
	Ended bool
	OK    bool
}

// writeStates makes a master's state tree.
func writeStates(dir string) error {
	files := map[string]string{
		"top.sls":        "base:\n  '*':\n    - first\n",
		"first.sls":      "first:\n  lab.ran: []\n",
		"_states/lab.py": stateModule,
	}
	if err := os.MkdirAll(filepath.Join(dir, "_states"), 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Behave changes how the minion's highstate behaves from its next run on.
func (m *Minion) Behave(s State) {
	m.lab.tb.Helper()
	if err := m.behave(s); err != nil {
		m.lab.tb.Fatalf("change state of minion %s: %v", m.ID, err)
	}
}

func (m *Minion) behave(s State) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if s.Hold {
		err = os.WriteFile(m.hold(), nil, 0o644)
	} else if err = os.Remove(m.hold()); errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.WriteFile(filepath.Join(m.Dir, "state.json"), text, 0o644))
}

// hold is a file that is there while highstates wait.
func (m *Minion) hold() string { return filepath.Join(m.Dir, "hold") }

// Release lets a highstate go on that waits. What has to happen while it runs has
// happened by then, however slow the machine is.
func (m *Minion) Release() {
	m.lab.tb.Helper()
	if err := os.Remove(m.hold()); err != nil {
		m.lab.tb.Fatalf("release state of minion %s: %v", m.ID, err)
	}
}

// Runs is how often the minion's highstate was begun: the state itself counts.
func (m *Minion) Runs() int {
	m.lab.tb.Helper()
	return len(m.RunLog())
}

// RunLog lists the runs of the minion's highstate in the order of their begin.
func (m *Minion) RunLog() []Run {
	m.lab.tb.Helper()
	text, err := os.ReadFile(filepath.Join(m.Dir, "runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.lab.tb.Fatalf("count highstates of minion %s: %v", m.ID, err)
	}
	var runs []Run
	for line := range strings.Lines(string(text)) {
		var what, jid string
		if _, err := fmt.Sscan(line, &what, &jid); err != nil {
			m.lab.tb.Fatalf("count highstates of minion %s: line %q: %v", m.ID, line, err)
		}
		if what == "begin" {
			runs = append(runs, Run{JID: jid})
			continue
		}
		for i := range runs {
			if run := &runs[i]; run.JID == jid && !run.Ended {
				run.Ended, run.OK = true, what == "succeed"
				break
			}
		}
	}
	return runs
}
