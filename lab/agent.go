package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// askedEvery: how often the lab looks whether an agent wants its minion
	// restarted.
	askedEvery = 50 * time.Millisecond
	// stopWithin bounds what stops a minion: packaging/stop-minion waits for 3 s, and a
	// busy machine takes its time.
	stopWithin = time.Minute
)

// AgentOptions say how an agent differs from the lab's plain one.
type AgentOptions struct {
	Minion *Minion
	Store  string         // default: the SQLite file that the lab's bridges share
	Config map[string]any // over the lab's configuration, by the keys of phoenix.yaml
	Env    []string       // beside the test's own environment

	// Interval is agent.interval; 0: its default.
	Interval time.Duration
}

// Agent is "phoenix agent" beside a minion. Its restart command asks the lab,
// which alone starts the lab's processes, and waits until that is done.
type Agent struct {
	*Process
	Minion   *Minion
	restarts atomic.Int64
}

// StartAgent starts an agent, which looks after its minion until the test ends.
func (l *Lab) StartAgent(o AgentOptions) *Agent {
	l.tb.Helper()
	binary, err := Binary()
	if err != nil {
		l.tb.Fatalf("%v", err)
	}
	if o.Store == "" {
		o.Store = "sqlite:" + filepath.Join(l.dir, "fleet.db")
	}
	a := &Agent{Process: l.process("agent"), Minion: o.Minion}
	settings := map[string]any{
		// A list that grows is no haste; nobody wants to wait a minute for it here.
		"splay":   "5s",
		"settle":  "10s",
		"restart": []string{"sh", "-c", fmt.Sprintf("touch %[1]s; while [ -e %[1]s ]; do sleep 0.05; done", a.asked())},
	}
	if o.Interval > 0 {
		settings["interval"] = o.Interval.String()
	}
	base := map[string]any{"store": o.Store, "salt_config": o.Minion.ConfigPath(), "agent": settings}
	if err := writeConfig(a.ConfigPath(), base, o.Config); err != nil {
		l.tb.Fatalf("%v", err)
	}
	a.prepare(o.Env, binary, "--config", a.ConfigPath(), "agent")
	stop, stopped, faults := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(stopped)
		if err := a.serve(stop); err != nil {
			faults <- err
		}
	}()
	tb := l.tb
	tb.Cleanup(func() {
		close(stop)
		<-stopped
		select {
		case err := <-faults:
			tb.Logf("restart minion %s: %v", o.Minion.ID, err)
		default:
		}
	})
	a.Start()
	return a
}

// ConfigPath is the agent's phoenix.yaml.
func (a *Agent) ConfigPath() string { return filepath.Join(a.Dir, "phoenix.yaml") }

// Restarts is how often the agent had its minion restarted.
func (a *Agent) Restarts() int { return int(a.restarts.Load()) }

// Listed reads the drop-in as a person would.
func (a *Agent) Listed() []string {
	text, err := os.ReadFile(filepath.Join(a.Minion.configDir(), "minion.d", "99-phoenix.conf"))
	if err != nil {
		return nil
	}
	var addresses []string
	for line := range strings.Lines(string(text)) {
		if address, ok := strings.CutPrefix(line, "  - "); ok {
			addresses = append(addresses, strings.Trim(address, "\"\n"))
		}
	}
	return addresses
}

// Owed reports whether the minion is still to be restarted with the list that is
// there.
func (a *Agent) Owed() bool {
	_, err := os.Stat(filepath.Join(a.Minion.configDir(), "minion.d", ".99-phoenix.restart"))
	return err == nil
}

// asked is a file that is there while the restart command waits.
func (a *Agent) asked() string { return filepath.Join(a.Dir, "asked") }

// serve does what the restart command asks for.
func (a *Agent) serve(stop <-chan struct{}) error {
	tick := time.NewTicker(askedEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		if _, err := os.Stat(a.asked()); err != nil {
			continue
		}
		if err := a.Minion.again(); err != nil {
			return err
		}
		a.restarts.Add(1)
		if err := os.Remove(a.asked()); err != nil {
			return err
		}
	}
}

// again restarts the minion as systemd does with the package's drop-in: by its own
// stop-minion, which leaves the jobs alone that run.
func (m *Minion) again() error {
	cmd, done := m.running()
	if !isOpen(done) {
		m.Kill()
		return m.begin()
	}
	root, err := Root()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	pid := cmd.Process.Pid
	stop := exec.CommandContext(ctx, "sh", filepath.Join(root, "packaging", "stop-minion"), strconv.Itoa(pid))
	if out, err := stop.CombinedOutput(); err != nil {
		return fmt.Errorf("stop minion: %w: %s", err, out)
	}
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("stop minion: process %d: %w", pid, ctx.Err())
	}
	go buryGroup(pid) // until the last job of it has ended
	return m.begin()
}
