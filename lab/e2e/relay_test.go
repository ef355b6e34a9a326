package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/service"
	"phoenix/lab"
)

// relayed is a fleet of several masters whose bridges relay, each minion on one of
// them.
type relayed struct {
	t       *testing.T
	lab     *lab.Lab
	version string
	masters []*lab.Master
	bridges []*lab.Bridge
	minions []*lab.Minion  // minion i is on master i % len(masters)
	ran     map[string]int // how often each minion had run its states at the last count
}

// relayPort is free on every address of a lab.
const relayPort = 4507

func newRelayed(t *testing.T, version string, masters, minions int) *relayed {
	t.Helper()
	l := lab.New(t)
	f := &relayed{t: t, lab: l, version: version}
	f.writePillar()
	for i := range masters {
		o := f.masterOptions()
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
		jobs := "own"
		if len(f.bridges) == masters-1 {
			jobs = "all"
		}
		f.bridges = append(f.bridges, f.newBridge(m, jobs))
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
		f.minions = append(f.minions, l.StartMinion(lab.MinionOptions{ID: id,
			Masters: []*lab.Master{f.masters[i%masters]},
			Extra:   map[string]any{"grains": map[string]any{"role": role(i)}}}))
	}
	for _, b := range f.bridges {
		b.Ready()
	}
	for i, m := range f.minions {
		master := f.masters[i%masters]
		l.Eventually(within, m.ID+" is accepted",
			func() (bool, string) { return master.HasAccepted(m.ID), master.Tail() })
	}
	f.warm()
	for i, m := range f.minions {
		m.Answers(f.masters[i%masters])
	}
	f.countAgain()
	return f
}

// role is a grain of minion i, and part is in its pillar.
func role(i int) string { return []string{"db", "web", "web"}[i%3] }
func part(i int) string { return []string{"blue", "green"}[i%2] }

func (f *relayed) writePillar() {
	f.t.Helper()
	top := "base:\n"
	for i := range 20 {
		top += fmt.Sprintf("  web-%d: [%s]\n", i+1, part(i))
	}
	for name, text := range map[string]string{"top.sls": top, "blue.sls": "part: blue\n",
		"green.sls": "part: green\n"} {
		path := filepath.Join(f.lab.Dir(), "pillar", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
			os.WriteFile(path, []byte(text), 0o644)); err != nil {
			f.t.Fatal(err)
		}
	}
}

// apiPort is where salt-api listens, on its master's address.
const apiPort = 8000

func (f *relayed) masterOptions() lab.MasterOptions {
	addr := f.lab.Addr()
	return lab.MasterOptions{Version: f.version, Addr: addr, Extra: map[string]any{
		"peer":               map[string]any{".*": []string{"test.*"}},
		"worker_threads":     3,
		"timeout":            30, // of the salt command: the machine may be busy
		"gather_job_timeout": 30,
		"pillar_roots":       map[string]any{"base": []string{filepath.Join(f.lab.Dir(), "pillar")}},
		"publisher_acl":      map[string]any{"nobody": []string{"test.ping"}},
		"external_auth": map[string]any{"auto": map[string]any{"alice": []any{"test.ping"},
			"api": []any{".*", "@runner"}}},
		"rest_cherrypy":         map[string]any{"host": addr, "port": apiPort, "disable_ssl": true},
		"netapi_enable_clients": []string{"local", "local_async", "runner"},
	}}
}

func (f *relayed) newBridge(m *lab.Master, jobs string) *lab.Bridge {
	return f.lab.NewBridge(lab.BridgeOptions{Master: m, Config: map[string]any{
		"highstate": map[string]any{"enabled": false},
		"audit":     map[string]any{"file": f.auditFile(m)},
		"relay":     map[string]any{"listen": net.JoinHostPort(m.Addr, strconv.Itoa(relayPort)), "jobs": jobs},
	}})
}

func (f *relayed) auditFile(m *lab.Master) string {
	return filepath.Join(f.lab.Dir(), "audit-"+m.ID+".log")
}

// audited waits for a line of a master's audit trail that has all of these texts.
func (f *relayed) audited(i int, texts ...string) {
	f.t.Helper()
	f.lab.Eventually(within, fmt.Sprintf("the audit trail of %s has %q", f.masters[i].ID, texts),
		func() (bool, string) {
			trail, err := os.ReadFile(f.auditFile(f.masters[i]))
			for line := range strings.Lines(string(trail)) {
				if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
					return true, ""
				}
			}
			return false, fmt.Sprint(string(trail[max(0, len(trail)-2000):]), err)
		})
}

// minionsWith returns the ids of the minions that a condition holds for.
func (f *relayed) minionsWith(yes func(i int) bool) []string {
	ids := []string{}
	for i, m := range f.minions {
		if yes(i) {
			ids = append(ids, m.ID)
		}
	}
	slices.Sort(ids)
	return ids
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
			if len(f.masters[i].Accepted()) != len(f.minions) || r == nil || !r.Relay.Hears ||
				len(r.Relay.Peers) != len(f.masters)-1 {
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
			f := newRelayed(t, version, 3, relayMinions())
			for _, step := range []struct {
				name  string
				short bool // in make test, too
				do    func()
			}{
				{"targets", true, f.targets},
				{"where", true, f.where},
				{"grains, pillar, compound", true, f.matched},
				{"state.apply", true, f.states},
				{"batch", false, f.batch},
				{"async and job cache", true, f.jobCache},
				{"kill_job", false, f.killJob},
				{"ctrl-C", false, f.interrupt},
				{"relay.jobs all", false, f.allJobs},
				{"manage.up and manage.status", false, f.manage},
				{"state.orchestrate", false, f.orchestrate},
				{"publish.publish", false, f.peerPublish},
				{"mine", false, f.mine},
				{"salt-api", false, f.api},
				{"external_auth", true, f.externalAuth},
				{"publisher_acl", false, f.publisherACL},
				{"forgeries", true, f.forgeries},
				{"status, masters, metrics, doctor", false, f.shown},
				{"minion moves", false, f.minionMoves},
				{"bridge killed", true, f.bridgeKilled},
				{"peer hangs", true, f.peerHangs},
				{"new master", false, f.newMaster},
			} {
				if !step.short && !full() {
					continue
				}
				t.Run(step.name, func(t *testing.T) {
					f.t = t
					f.lab.In(t)
					step.do()
				})
			}
		})
	}
}

// relayMinions is how many minions are spread over the masters.
func relayMinions() int {
	if n, err := strconv.Atoi(os.Getenv("PHOENIX_RELAY_MINIONS")); err == nil {
		return n
	}
	if full() {
		return 9
	}
	return 3
}

// full reports whether everything is to be tried: make relay does so.
func full() bool { return os.Getenv("PHOENIX_RELAY_SALTS") != "" }

func relaySalts() []string {
	if names := os.Getenv("PHOENIX_RELAY_SALTS"); names != "" {
		return strings.Fields(names)
	}
	return []string{lab.Salt3007}
}

// ranTimes checks by the states themselves that each minion ran them so often since the
// last time.
func (f *relayed) ranTimes(n int) {
	f.t.Helper()
	for _, m := range f.minions {
		if runs := m.RunLog(); len(runs) != f.ran[m.ID]+n {
			f.t.Errorf("%s ran %d states since the last count, not %d: %+v", m.ID, len(runs)-f.ran[m.ID], n, runs)
		}
	}
	f.countAgain()
}

// countAgain begins to count.
func (f *relayed) countAgain() {
	f.ran = map[string]int{}
	for _, m := range f.minions {
		f.ran[m.ID] = m.Runs()
	}
}
