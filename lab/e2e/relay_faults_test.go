package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"phoenix/bridge/relay"
	"phoenix/lab"
)

// forgeries: an accepted minion of the second master sends all that it can.
func (f *relayed) forgeries() {
	jid := time.Now().Format("20060102150405") + "123456"
	proof := filepath.Join(f.lab.Dir(), "pwned")
	f.minions[1].Forge(f.masters[1], jid, "touch "+proof)
	answers, _ := f.salt(1, "*", "test.ping") // a job after it has come through
	f.answered(answers, true, f.all()...)
	if _, err := os.Stat(proof); !os.IsNotExist(err) {
		f.t.Errorf("a minion ran what another one forged: %v", err)
	}
	f.audited(1, "may have forged it", jid)
	for _, b := range f.bridges {
		lines := slices.DeleteFunc(b.Grep(jid),
			func(line string) bool { return strings.Contains(line, "may have forged it") })
		if len(lines) > 0 {
			f.t.Errorf("%s: %q", b.Name, lines)
		}
	}
	if out := f.masters[0].Run("salt-run", "--out=json", "jobs.lookup_jid", jid); strings.Contains(out, "forged") {
		f.t.Errorf("a forged return went to the other master: %s", out)
	}
}

// shown: what people and programs are shown of the relay.
func (f *relayed) shown() {
	b := f.bridges[0]
	if list := b.Phoenix("masters", "list"); strings.Count(list, " connected ") != len(f.masters)-1 ||
		!strings.Contains(list, "this master") {
		f.t.Errorf("masters list: %s", list)
	}
	if out, _, _ := b.Try("doctor", "--json"); !strings.Contains(out,
		fmt.Sprintf("it reaches %d other masters", len(f.masters)-1)) {
		f.t.Errorf("doctor: %s", out)
	}
	if text := b.Phoenix("status"); strings.Count(text, ": connected; ") != len(f.masters)-1 ||
		strings.Contains(text, "not shared") {
		f.t.Errorf("status: %s", text)
	}
}

// move gives a minion another master, as its agent does.
func (f *relayed) move(m *lab.Minion, to int) {
	f.t.Helper()
	m.Stop()
	path := filepath.Join(filepath.Dir(m.ConfigPath()), "minion.d", "99-phoenix.conf")
	text := "master: " + net.JoinHostPort(f.masters[to].Addr, strconv.Itoa(f.lab.RetPort)) + "\n"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
	m.Start()
}

// minionMoves: a minion changes its master while jobs are published, and once while the
// bridge of its new master stands still: it runs none of them twice, and afterwards all.
func (f *relayed) minionMoves() {
	m, last := f.minions[0], len(f.masters)-1
	before := len(m.RunLog())
	jids := []string{}
	moved := make(chan struct{})
	go func() {
		defer close(moved)
		f.move(m, 1)
		for range 200 { // until the minion has a line in its log of this run
			if m.Alive() && strings.Contains(m.Tail(), "ready to receive requests") {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	for done := false; !done; {
		jids = append(jids, f.async(last, "*", "state.apply"))
		select {
		case <-moved:
			done = true
		default:
		}
	}
	m.Answers(f.masters[1])
	f.lab.Eventually(within, "it runs jobs again", func() (bool, string) {
		runs := m.Runs()
		out, err := f.masters[last].TryRun("salt", m.ID, "state.apply") // while another one runs, a minion refuses it
		return m.Runs() > runs, fmt.Sprint(out, err, m.RunLog())
	})

	f.bridges[0].Signal(syscall.SIGSTOP)
	jid := f.async(1, m.ID, "state.apply")
	f.lab.Eventually(within, "it has run the job", func() (bool, string) {
		return slices.ContainsFunc(m.RunLog(), func(r lab.Run) bool { return r.JID == jid && r.Ended }),
			fmt.Sprint(m.RunLog())
	})
	f.move(m, 0)
	m.Answers(f.masters[0])
	f.bridges[0].Signal(syscall.SIGCONT)
	f.together()
	answers, _ := f.salt(1, "*", "test.ping")
	f.answered(answers, true, f.all()...)
	for _, m := range f.minions {
		runs := map[string]int{}
		for _, r := range m.RunLog() {
			if runs[r.JID]++; runs[r.JID] > 1 {
				f.t.Errorf("%s ran %s %d times", m.ID, r.JID, runs[r.JID])
			}
		}
	}
	f.t.Logf("%d jobs while %s moved, which ran %d", len(jids)+1, m.ID, len(m.RunLog())-before)
	f.countAgain()
}

// bridgeKilled: bridges die while a state runs; once they are back they run nothing
// again, and reach each other's minions again.
func (f *relayed) bridgeKilled() {
	for _, m := range f.minions {
		m.Behave(lab.State{Seconds: 5})
	}
	before := f.runs()
	jid := f.async(0, "*", "state.apply")
	f.lab.Eventually(within, "the state runs on all", func() (bool, string) {
		return f.runs() == before+len(f.minions), jid
	})
	for _, b := range f.bridges[:2] {
		b.Kill()
		b.Start()
	}
	f.together()
	answers, _ := f.salt(0, "*", "test.ping")
	f.answered(answers, true, f.all()...)
	f.ended()
	f.ranTimes(1)
	for _, m := range f.minions {
		m.Behave(lab.State{})
	}
}

// ended waits until all that runs has ended.
func (f *relayed) ended() {
	f.t.Helper()
	f.lab.Eventually(within, "the states have ended on all", func() (bool, string) {
		for _, m := range f.minions {
			for _, r := range m.RunLog() {
				if !r.Ended {
					return false, m.ID + " " + r.JID
				}
			}
		}
		return true, ""
	})
}

// runs is how many state runs all minions have begun.
func (f *relayed) runs() int {
	n := 0
	for _, m := range f.minions {
		n += m.Runs()
	}
	return n
}

// peerHangs: another bridge stands still. Commands end as they would without a relay,
// say who is missing, and what it reads when it goes on is too late.
func (f *relayed) peerHangs() {
	hung := f.minionsWith(func(i int) bool { return i%len(f.masters) == 1 })
	f.bridges[1].Signal(syscall.SIGSTOP)
	jid := f.async(0, "*", "state.apply")
	f.lab.Eventually(within, "the hung peer is named", func() (bool, string) {
		var job relay.Job
		f.bridges[0].JSON(&job, "jobs", "show", jid)
		missing := []string{}
		for _, m := range job.Missing {
			if m.Master == f.masters[1].ID {
				missing = append(missing, m.Minion)
			}
		}
		return slices.Equal(missing, hung) && len(job.Missing) == len(hung) &&
				len(f.bridges[0].Grep("did not reach a master")) > 0,
			fmt.Sprintf("%+v", job)
	})
	f.lab.Eventually(within, "the hung peer is given up", func() (bool, string) {
		r := f.relay(f.bridges[0])
		return slices.ContainsFunc(r.Relay.Peers,
			func(p relay.Peer) bool { return p.Master == f.masters[1].ID && !p.Connected }), fmt.Sprintf("%+v", r.Relay)
	})
	// A job after that names them at once, on the bus and in status.
	events, later := f.watchEvents(0), ""
	f.lab.Eventually(within, "an event names them", func() (bool, string) {
		later = f.async(0, "*", "test.ping") // the watcher may not be there for the first one
		text := events()
		return strings.Contains(text, "/missing") && strings.Contains(text, hung[0]), text
	})
	f.lab.Eventually(within, "status names them", func() (bool, string) {
		text := f.bridges[0].Phoenix("status")
		return strings.Contains(text, "job "+later[:10]) && strings.Contains(text, "did not reach "+f.masters[1].ID) &&
			strings.Contains(text, hung[0]), text
	})
	f.bridges[1].Signal(syscall.SIGCONT)
	f.together()
	answers, _ := f.salt(0, "*", "test.ping")
	f.answered(answers, true, f.all()...)
	f.ended()
	for _, m := range f.minions {
		want := 1
		if slices.Contains(hung, m.ID) {
			want = 0
		}
		if got := len(slices.DeleteFunc(m.RunLog(), func(r lab.Run) bool { return r.JID != jid })); got != want {
			f.t.Errorf("%s ran the job %d times, not %d", m.ID, got, want)
		}
	}
	f.countAgain()
}

// watchEvents returns what "phoenix events" prints from now on.
func (f *relayed) watchEvents(i int) func() string {
	f.t.Helper()
	b := f.bridges[i]
	path := filepath.Join(f.lab.Dir(), "events-"+b.Name)
	out, err := os.Create(path)
	if err != nil {
		f.t.Fatal(err)
	}
	binary, err := lab.Binary()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command(binary, "--config", b.ConfigPath(), "events", "--json", "--tag", "phoenix/relay/*")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		out.Close()
	})
	return func() string {
		text, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
}
