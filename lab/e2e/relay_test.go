package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"phoenix/bridge/relay"
	"phoenix/bridge/service"
	"phoenix/lab"
)

// relayed is a fleet of several masters whose bridges relay, each minion on one of
// them.
type relayed struct {
	t       *testing.T
	lab     *lab.Lab
	masters []*lab.Master
	bridges []*lab.Bridge
	minions []*lab.Minion // minion i is on master i % len(masters)
}

// relayPort is free on every address of a lab.
const relayPort = 4507

func newRelayed(t *testing.T, version string, masters, minions int) *relayed {
	t.Helper()
	l := lab.New(t)
	f := &relayed{t: t, lab: l}
	extra := map[string]any{"peer": map[string]any{".*": []string{"test.*"}}, "worker_threads": 3}
	for i := range masters {
		o := lab.MasterOptions{Version: version, Extra: extra}
		if i > 0 {
			o.KeyFrom = f.masters[0]
		}
		m := l.StartMaster(o)
		if i == 0 {
			m.Ready()
		}
		f.masters = append(f.masters, m)
	}
	for _, m := range f.masters {
		m.Ready()
		f.bridges = append(f.bridges, l.NewBridge(lab.BridgeOptions{Master: m, Config: map[string]any{
			"highstate": map[string]any{"enabled": false},
			"relay":     map[string]any{"listen": net.JoinHostPort(m.Addr, strconv.Itoa(relayPort))},
		}}))
	}
	ids := []string{}
	for i := range minions {
		ids = append(ids, fmt.Sprintf("web-%d", i+1))
	}
	f.bridges[0].Phoenix(append([]string{"minions", "add"}, ids...)...)
	for _, b := range f.bridges {
		b.Start()
	}
	for i, id := range ids {
		f.minions = append(f.minions, l.StartMinion(lab.MinionOptions{ID: id, Masters: []*lab.Master{f.masters[i%masters]}}))
	}
	for _, b := range f.bridges {
		b.Ready()
	}
	for i, m := range f.minions {
		master := f.masters[i%masters]
		l.Eventually(within, m.ID+" is accepted", func() (bool, string) { return master.HasAccepted(m.ID), master.Tail() })
	}
	f.warm()
	for i, m := range f.minions {
		m.Answers(f.masters[i%masters])
	}
	return f
}

// warm starts the bridges again, so that each lays down the keys of all minions: they
// do every two minutes, else.
func (f *relayed) warm() {
	for _, b := range f.bridges {
		b.Restart()
	}
	f.together()
}

// together waits until each bridge knows each minion's key, and reaches each peer.
func (f *relayed) together() {
	f.t.Helper()
	for i, b := range f.bridges {
		f.lab.Eventually(within, b.Name+" reaches its peers and knows all minions", func() (bool, string) {
			r := f.relay(b)
			if len(f.masters[i].Accepted()) != len(f.minions) || r == nil || !r.Relay.Hears || len(r.Relay.Peers) != len(f.masters)-1 {
				return false, fmt.Sprintf("%v %+v", f.masters[i].Accepted(), r)
			}
			for _, p := range r.Relay.Peers {
				if !p.Connected {
					return false, fmt.Sprintf("%+v", p)
				}
			}
			return true, ""
		})
	}
}

func (f *relayed) relay(b *lab.Bridge) *service.Report {
	var status struct {
		Bridge *service.Report `json:"bridge"`
	}
	b.JSON(&status, "status", "--json")
	return status.Bridge
}

// salt runs the salt command on master i, and gives the answers by minion, and how
// long it took.
func (f *relayed) salt(i int, args ...string) (map[string]any, time.Duration) {
	f.t.Helper()
	begun := time.Now()
	out := f.masters[i].Run("salt", append([]string{"--out=json", "--static"}, args...)...)
	took := time.Since(begun)
	answers := map[string]any{}
	if err := json.Unmarshal([]byte(out), &answers); err != nil {
		f.t.Fatalf("salt %v: %v: %s", args, err, out)
	}
	f.t.Logf("salt %s: %d answers in %.1f s", strings.Join(args, " "), len(answers), took.Seconds())
	return answers, took
}

func (f *relayed) all() []string {
	ids := []string{}
	for _, m := range f.minions {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	return ids
}

func (f *relayed) answered(answers map[string]any, want any, ids ...string) {
	f.t.Helper()
	if got := slices.Sorted(maps.Keys(answers)); !slices.Equal(got, ids) {
		f.t.Errorf("%v answered, not %v", got, ids)
	}
	for id, a := range answers {
		if want != nil && fmt.Sprint(a) != fmt.Sprint(want) {
			f.t.Errorf("%s answered %v, not %v", id, a, want)
		}
	}
}

// TestG11_Relay: plain commands on one master reach the minions of all, and run once
// on each; on one version of Salt, unless PHOENIX_RELAY_SALTS names others.
func TestG11_Relay(t *testing.T) {
	t.Parallel()
	for _, version := range relaySalts() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f := newRelayed(t, version, 2, 3)
			for _, step := range []struct {
				name string
				do   func(*testing.T)
			}{
				{"commands", f.commands}, {"job cache", f.jobCache}, {"forgeries", f.forgeries},
				{"bridge killed", f.bridgeKilled}, {"peer hangs", f.peerHangs},
			} {
				t.Run(step.name, func(t *testing.T) {
					f.t = t
					f.lab.In(t)
					step.do(t)
				})
			}
		})
	}
}

func relaySalts() []string {
	if names := os.Getenv("PHOENIX_RELAY_SALTS"); names != "" {
		return strings.Fields(names)
	}
	return []string{lab.Salt3007}
}

// ranTimes checks by the states themselves how often each minion ran something.
func (f *relayed) ranTimes(n int) {
	f.t.Helper()
	for _, m := range f.minions {
		if runs := m.RunLog(); len(runs) != n {
			f.t.Errorf("%s ran %d states, not %d: %+v", m.ID, len(runs), n, runs)
		}
	}
}

func (f *relayed) commands(t *testing.T) {
	for i := range f.masters {
		answers, _ := f.salt(i, "*", "test.ping")
		f.answered(answers, true, f.all()...)
	}
	answers, _ := f.salt(0, "-L", "web-2,web-3", "test.echo", "a=b c")
	f.answered(answers, nil, "web-2", "web-3")
	answers, _ = f.salt(0, "-E", "web-[12]", "test.kwarg", "x={a: [1, 2.5, null]}", "--metadata", `{"who": "me"}`)
	f.answered(answers, nil, "web-1", "web-2")
	answers, _ = f.salt(1, "*", "state.apply")
	f.answered(answers, nil, f.all()...)
	f.ranTimes(1)
	// Salt 3008 publishes all parts of a batch under one job id.
	out := f.masters[1].Run("salt", "--batch-size=1", "--out=txt", "*", "test.ping")
	for _, id := range f.all() {
		if !strings.Contains(out, id) {
			t.Errorf("%s did not answer a batch: %s", id, out)
		}
	}
	if up := f.masters[0].Run("salt-run", "--out=json", "manage.up"); strings.Count(up, "web-") != 3 {
		t.Errorf("up are %s", up)
	}
	if list := f.masters[0].Run("salt-key", "--out=json", "--list=all"); strings.Contains(list, "phoenix") {
		t.Errorf("the bridge is shown among the minions: %s", list)
	}
}

var anyJID = regexp.MustCompile(`[0-9]{20}`)

func (f *relayed) jobCache(t *testing.T) {
	jid := anyJID.FindString(f.masters[0].Run("salt", "--async", "*", "test.sleep", "2"))
	f.lab.Eventually(within, "the job cache has all returns", func() (bool, string) {
		out, err := f.masters[0].TryRun("salt-run", "--out=json", "jobs.lookup_jid", jid)
		return strings.Count(out, "web-") == 3, fmt.Sprint(out, err)
	})
	if list := f.masters[0].Run("salt-run", "--out=json", "jobs.list_jobs"); !strings.Contains(list, jid) {
		t.Errorf("jobs.list_jobs does not have %s", jid)
	}
	var job relay.Job
	f.bridges[0].JSON(&job, "jobs", "show", "--json", jid)
	if job.Returned != 3 || len(job.Missing) != 0 || job.Function != "test.sleep" || len(job.Peers) != 1 {
		t.Errorf("%+v", job)
	}
	jid = anyJID.FindString(f.masters[0].Run("salt", "--async", "*", "test.sleep", "300"))
	f.lab.Eventually(within, "the job runs everywhere", func() (bool, string) {
		answers, _ := f.salt(0, "*", "saltutil.find_job", jid)
		text := fmt.Sprint(answers)
		return strings.Count(text, jid) == 3, text
	})
	answers, _ := f.salt(0, "*", "saltutil.kill_job", jid)
	if text := fmt.Sprint(answers); strings.Count(text, "Signal 9") != 3 {
		t.Errorf("killed: %s", text)
	}
}

// forgeries: an accepted minion of the second master sends all that it can.
func (f *relayed) forgeries(t *testing.T) {
	jid := time.Now().Format("20060102150405") + "123456"
	proof := filepath.Join(f.lab.Dir(), "pwned")
	f.minions[1].Forge(f.masters[1], jid, "touch "+proof)
	answers, _ := f.salt(1, "*", "test.ping") // a job after it has come through
	f.answered(answers, true, f.all()...)
	if _, err := os.Stat(proof); !os.IsNotExist(err) {
		t.Errorf("a minion ran what another one forged: %v", err)
	}
	for _, b := range f.bridges {
		if lines := b.Grep(jid); len(lines) > 0 {
			t.Errorf("%s: %q", b.Name, lines)
		}
	}
	if out := f.masters[0].Run("salt-run", "--out=json", "jobs.lookup_jid", jid); strings.Contains(out, "forged") {
		t.Errorf("a forged return went to the other master: %s", out)
	}
}

// bridgeKilled: the bridge of the other master dies while a state runs there; once it
// is back it runs nothing again, and its minions are reached again.
func (f *relayed) bridgeKilled(t *testing.T) {
	for _, m := range f.minions {
		m.Behave(lab.State{Seconds: 5})
	}
	jid := anyJID.FindString(f.masters[0].Run("salt", "--async", "*", "state.apply"))
	f.lab.Eventually(within, "the state runs on all", func() (bool, string) {
		return !slices.ContainsFunc(f.minions, func(m *lab.Minion) bool { return m.Runs() != 2 }), jid
	})
	f.bridges[1].Kill()
	f.bridges[1].Start()
	f.bridges[0].Kill()
	f.bridges[0].Start()
	f.together()
	answers, _ := f.salt(0, "*", "test.ping")
	f.answered(answers, true, f.all()...)
	f.lab.Eventually(within, "the state has ended on all", func() (bool, string) {
		return !slices.ContainsFunc(f.minions, func(m *lab.Minion) bool { r := m.RunLog(); return !r[len(r)-1].Ended }), jid
	})
	f.ranTimes(2)
}

// peerHangs: the other bridge stands still. Commands end as they would without a
// relay, say who is missing, and what it reads when it goes on is too late.
func (f *relayed) peerHangs(t *testing.T) {
	for _, m := range f.minions {
		m.Behave(lab.State{})
	}
	f.bridges[1].Signal(syscall.SIGSTOP)
	jid := anyJID.FindString(f.masters[0].Run("salt", "--async", "*", "state.apply"))
	f.lab.Eventually(within, "the hung peer is named", func() (bool, string) {
		var job relay.Job
		f.bridges[0].JSON(&job, "jobs", "show", "--json", jid)
		return len(job.Missing) == 1 && job.Missing[0].Minion == "web-2" && job.Missing[0].Master == f.masters[1].ID &&
			len(f.bridges[0].Grep("did not reach a master")) > 0, fmt.Sprintf("%+v", job)
	})
	f.lab.Eventually(within, "the hung peer is given up", func() (bool, string) {
		r := f.relay(f.bridges[0])
		return !r.Relay.Peers[0].Connected, fmt.Sprintf("%+v", r.Relay)
	})
	f.bridges[1].Signal(syscall.SIGCONT)
	f.together()
	answers, _ := f.salt(0, "*", "test.ping")
	f.answered(answers, true, f.all()...)
	for _, m := range f.minions {
		want := 3
		if m.ID == "web-2" {
			want = 2
		}
		if got := m.Runs(); got != want {
			t.Errorf("%s ran %d states, not %d", m.ID, got, want)
		}
	}
}
