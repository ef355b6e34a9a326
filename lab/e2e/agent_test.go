package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"phoenix/lab"
)

// stopWithin is how long the lab gives a minion to end by SIGTERM when its agent
// restarts it, as TimeoutStopSec would: one of 3007.15 often takes no notice.
const stopWithin = 3 * time.Second

// TestAgentFollowsTheLiving: a master and its bridge are killed without a word.
// The agent, which knows them from the store alone, takes the master off its
// minion's list, and the other master serves the minion; the first highstate has
// run once, and the operator's configuration is what it was.
func TestAgentFollowsTheLiving(t *testing.T) {
	t.Parallel()
	const version = "3007.15"
	l := lab.New(t)
	first := l.StartMaster(lab.MasterOptions{Version: version})
	first.Ready()
	second := l.StartMaster(lab.MasterOptions{Version: version, KeyFrom: first})
	second.Ready()
	bridges := map[string]*lab.Bridge{}
	for _, m := range []*lab.Master{first, second} {
		bridges[m.Addr] = l.StartBridge(lab.BridgeOptions{Master: m})
	}
	for _, b := range bridges {
		b.Ready()
	}
	bridges[first.Addr].Phoenix("minions", "add", "web-1")
	minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{first, second}, Failover: true})
	a := startAgent(t, l, minion)
	configured, err := os.ReadFile(minion.ConfigPath())
	if err != nil {
		t.Fatal(err)
	}

	// From a list that somebody else wrote to the agent's.
	a.until("the agent has written its list, and restarted the minion", func() (bool, string) {
		return len(a.listed()) == 2 && a.restarts == 1 && a.served() > 0, fmt.Sprintf("%v, %d restarts\n%s", a.listed(), a.restarts, a.said())
	})
	masters := map[string]*lab.Master{first.Addr: first, second.Addr: second}
	lost, other := masters[a.listed()[0]], masters[a.listed()[1]]
	a.until("its first highstate ran", func() (bool, string) {
		row := bridges[other.Addr].Minions()["web-1"]
		return row.HighstateRan, fmt.Sprintf("%+v", row)
	})
	minion.Answers(lost)
	a.quiet(settle)

	died, served := time.Now(), a.served()
	lost.Kill()
	bridges[lost.Addr].Kill()
	var took time.Duration
	a.until("the other master serves the minion", func() (bool, string) {
		took = time.Since(died)
		return a.served() > served, a.said()
	})
	by := "by Salt's own failover"
	if a.restarts > 1 {
		by = "by the agent's restart"
	}
	t.Logf("Salt %s: %.1f s from the death of master and bridge to the minion served by the other, %s", version, took.Seconds(), by)
	a.until("the dead master is off the list, and the minion knows", func() (bool, string) {
		return slices.Equal(a.listed(), []string{other.Addr}) && a.restarts == 2, fmt.Sprintf("%v, %d restarts\n%s", a.listed(), a.restarts, a.said())
	})
	t.Logf("%.1f s until it was off the list, and the minion restarted", time.Since(died).Seconds())
	minion.Answers(other)

	if schedule := a.read("minion.d/_schedule.conf"); strings.Contains(schedule, lost.Addr) || !strings.Contains(schedule, "__master_alive_"+other.Addr) {
		t.Errorf("the schedule is not the other master's alone:\n%s", schedule)
	}
	if now := a.read("minion"); now != string(configured) {
		t.Errorf("the minion's own configuration was changed:\n%s", now)
	}
	if minion.Runs() != 1 {
		t.Errorf("the highstate ran %d times: %+v", minion.Runs(), minion.RunLog())
	}
	a.quiet(settle)
	if a.restarts != 2 {
		t.Errorf("%d restarts", a.restarts)
	}
}

// agent is "phoenix agent" beside a minion of the lab. Its restart command asks
// the test, which alone can start the lab's processes, and waits.
type agent struct {
	t        *testing.T
	lab      *lab.Lab
	minion   *lab.Minion
	dir      string
	asked    string // a file that is there while the command waits
	restarts int
}

func startAgent(t *testing.T, l *lab.Lab, minion *lab.Minion) *agent {
	t.Helper()
	return runAgent(t, l, minion, nil, "--store", "sqlite:"+filepath.Join(l.Dir(), "fleet.db"))
}

func runAgent(t *testing.T, l *lab.Lab, minion *lab.Minion, env []string, args ...string) *agent {
	t.Helper()
	binary, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, lab: l, minion: minion, dir: t.TempDir()}
	a.asked = filepath.Join(a.dir, "asked")
	log, err := os.Create(filepath.Join(a.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary, append([]string{"agent", "--salt-config", minion.ConfigPath(), "--agent-splay", "5s",
		"--agent-restart", fmt.Sprintf("[sh, -c, 'touch %s; while [ -e %s ]; do sleep 0.1; done']", a.asked, a.asked)}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Remove(a.asked) // lets a command that waits end
		cancel()
		if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) { // Wait says so of one that ended well, too
			t.Errorf("the agent ended with %v", err)
		}
		if t.Failed() {
			t.Logf("--- agent\n%s", a.said())
		}
		log.Close()
	})
	return a
}

// serve does what the restart command asks for.
func (a *agent) serve() {
	a.t.Helper()
	if _, err := os.Stat(a.asked); err != nil {
		return
	}
	a.minion.Signal(syscall.SIGTERM)
	for begun := time.Now(); a.minion.Alive() && time.Since(begun) < stopWithin; {
		<-time.After(100 * time.Millisecond)
	}
	a.minion.Kill()
	a.minion.Start()
	a.restarts++
	if err := os.Remove(a.asked); err != nil {
		a.t.Fatal(err)
	}
}

// until waits, and restarts the minion when the agent asks for it.
func (a *agent) until(what string, look func() (bool, string)) {
	a.t.Helper()
	a.lab.Eventually(within, what, func() (bool, string) {
		a.serve()
		return look()
	})
}

// quiet serves for a while in which nothing need happen.
func (a *agent) quiet(d time.Duration) {
	a.t.Helper()
	begun := time.Now()
	a.until("a while has passed", func() (bool, string) { return time.Since(begun) > d, "" })
}

// listed reads the drop-in as a person would.
func (a *agent) listed() []string {
	var addresses []string
	for line := range strings.Lines(a.read("minion.d/99-phoenix.conf")) {
		if address, ok := strings.CutPrefix(line, "  - "); ok {
			addresses = append(addresses, strings.Trim(address, "\"\n"))
		}
	}
	return addresses
}

// served is how often the minion said that it is.
func (a *agent) served() int { return len(a.minion.Grep("Minion is ready to receive requests!")) }

func (a *agent) said() string {
	text, err := os.ReadFile(filepath.Join(a.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text))
}

// read gives a file of the minion's configuration; empty if there is none.
func (a *agent) read(name string) string {
	a.t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(a.minion.ConfigPath()), name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		a.t.Fatal(err)
	}
	return string(text)
}
