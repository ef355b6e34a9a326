package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/relay"
)

// Each of these runs one of Salt's own commands on one master, for minions of all.

func (f *relayed) targets() {
	for i := range f.masters {
		answers, _ := f.salt(i, "*", "test.ping")
		f.answered(answers, true, f.all()...)
	}
	answers, _ := f.salt(0, "-L", "web-2,web-3", "test.echo", "a=b c")
	f.answered(answers, nil, "web-2", "web-3")
	answers, _ = f.salt(0, "-E", "web-[12]", "test.kwarg", "x={a: [1, 2.5, null]}", "--metadata", `{"who": "me"}`)
	f.answered(answers, nil, "web-1", "web-2")
	if list := f.masters[0].Run("salt-key", "--out=json", "--list=all"); strings.Contains(list, "phoenix") {
		f.t.Errorf("the bridge is shown among the minions: %s", list)
	}
}

// where: each master says which master serves which minion.
func (f *relayed) where() {
	for i, b := range f.bridges {
		var places []struct{ ID, Master string }
		b.JSON(&places, "minions", "where")
		for j, m := range f.minions {
			want := f.masters[j%len(f.masters)].ID
			if !slices.ContainsFunc(places,
				func(p struct{ ID, Master string }) bool { return p.ID == m.ID && p.Master == want }) {
				f.t.Errorf("%s says that minions are on %v: %s is on %s", b.Name, places, m.ID, want)
			}
		}
		for j, m := range f.masters {
			var rows []fleet.Minion
			b.JSON(&rows, "minions", "list", "--on", m.ID)
			want := f.minionsWith(func(k int) bool { return k%len(f.masters) == j })
			got := []string{}
			for _, r := range rows {
				got = append(got, r.SaltID())
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				f.t.Errorf("%s: on %s are %v, not %v", f.masters[i].ID, m.ID, got, want)
			}
		}
	}
}

// matched: masters share what they know of minions, so that each one expects exactly
// those that a target means.
func (f *relayed) matched() {
	for i := range f.masters {
		f.knowsAll(i)
		f.matchedOn(i)
	}
}

func (f *relayed) matchedOn(i int) {
	f.t.Helper()
	web := f.minionsWith(func(i int) bool { return role(i) == "web" })
	green := f.minionsWith(func(i int) bool { return part(i) == "green" })
	both := f.minionsWith(func(i int) bool { return role(i) == "web" && part(i) == "green" })
	for _, test := range []struct {
		target []string
		want   []string
	}{
		{[]string{"-G", "role:web"}, web},
		{[]string{"-I", "part:green"}, green},
		{[]string{"-C", "G@role:web and I@part:green"}, both},
	} {
		answers, _ := f.salt(i, append(test.target, "test.ping")...)
		f.answered(answers, true, test.want...)
		if job := f.lastJob(i, "test.ping"); job.Expected != len(test.want) || job.Returned != len(test.want) {
			f.t.Errorf("%v on %s: %d were expected, and %d returned", test.target, f.masters[i].ID,
				job.Expected, job.Returned)
		}
	}
}

// knowsAll waits until a master has the grains of all minions.
func (f *relayed) knowsAll(i int) {
	f.t.Helper()
	f.lab.Eventually(within, f.masters[i].ID+" has the grains of all minions", func() (bool, string) {
		out := f.masters[i].Run("salt-run", "--out=json", "cache.grains", "*")
		known := map[string]map[string]any{}
		if err := json.Unmarshal([]byte(out), &known); err != nil {
			return false, err.Error() + out
		}
		n := 0
		for _, grains := range known {
			if grains["role"] != nil {
				n++
			}
		}
		return n == len(f.minions), fmt.Sprintf("%d of %v\n%s", n, slices.Sorted(maps.Keys(known)), f.dataCaches())
	})
}

// dataCaches lists the files of all masters' data caches.
func (f *relayed) dataCaches() string {
	var list strings.Builder
	for _, m := range f.masters {
		for _, pattern := range []string{"minions/*/*.p", "grains/*.p", "pillar/*.p", "mine/*.p"} {
			names, _ := filepath.Glob(filepath.Join(m.Dir, "var/cache/salt/master", pattern))
			for _, name := range names {
				if info, err := os.Stat(name); err == nil {
					fmt.Fprintf(&list, "%s %d bytes, %s\n", name, info.Size(), info.ModTime().Format(time.RFC3339Nano))
				}
			}
		}
	}
	return list.String()
}

// lastJob is the newest job of a master with that function.
func (f *relayed) lastJob(i int, function string) relay.Job {
	f.t.Helper()
	var jobs []relay.Job
	f.bridges[i].JSON(&jobs, "jobs", "list")
	for _, j := range jobs {
		if j.Function == function {
			return j
		}
	}
	f.t.Fatalf("%s has no job %s: %+v", f.bridges[i].Name, function, jobs)
	return relay.Job{}
}

func (f *relayed) states() {
	answers, _ := f.salt(1, "*", "state.apply")
	f.answered(answers, nil, f.all()...)
	f.ranTimes(1)
}

// batch: Salt 3008 publishes all parts of a batch under one job id.
func (f *relayed) batch() {
	out := f.masters[1].Run("salt", "--batch-size=2", "--out=txt", "*", "state.apply")
	for _, id := range f.all() {
		if !strings.Contains(out, id) {
			f.t.Errorf("%s did not answer a batch: %s", id, out)
		}
	}
	f.ranTimes(1)
}

var anyJID = regexp.MustCompile(`[0-9]{20}`)

func (f *relayed) async(i int, args ...string) (jid string) {
	f.t.Helper()
	out := f.masters[i].Run("salt", append([]string{"--async"}, args...)...)
	if jid = anyJID.FindString(out); jid == "" {
		f.t.Fatalf("salt --async %v: %s", args, out)
	}
	return jid
}

// inCache waits until a master's job cache has the returns of so many minions.
func (f *relayed) inCache(i int, jid string, minions int) {
	f.t.Helper()
	f.lab.Eventually(within, fmt.Sprintf("the job cache of %s has %d returns", f.masters[i].ID, minions),
		func() (bool, string) {
			out, err := f.masters[i].TryRun("salt-run", "--out=json", "jobs.lookup_jid", jid)
			return strings.Count(out, "web-") == minions, fmt.Sprint(out, err)
		})
}

func (f *relayed) jobCache() {
	jid := f.async(0, "*", "test.sleep", "2")
	f.inCache(0, jid, len(f.minions))
	if list := f.masters[0].Run("salt-run", "--out=json", "jobs.list_jobs"); !strings.Contains(list, jid) {
		f.t.Errorf("jobs.list_jobs does not have %s", jid)
	}
	var job relay.Job
	f.bridges[0].JSON(&job, "jobs", "show", jid)
	if job.Returned != len(f.minions) || len(job.Missing) != 0 || job.Function != "test.sleep" ||
		len(job.Peers) != len(f.masters)-1 {
		f.t.Errorf("%+v", job)
	}
}

func (f *relayed) killJob() {
	f.kill(f.async(0, "*", "test.sleep", "300"))
}

// kill ends a job on all minions.
func (f *relayed) kill(jid string) {
	f.t.Helper()
	f.lab.Eventually(within, "the job runs everywhere", func() (bool, string) {
		answers, _ := f.salt(0, "*", "saltutil.find_job", jid)
		text := fmt.Sprint(answers)
		return strings.Count(text, jid) == len(f.minions), text
	})
	answers, _ := f.salt(0, "*", "saltutil.kill_job", jid)
	if text := fmt.Sprint(answers); strings.Count(text, "Signal 9") != len(f.minions) {
		f.t.Errorf("killed: %s", text)
	}
}

// interrupt: ctrl-C ends the command, says which job it was, and leaves it running.
func (f *relayed) interrupt() {
	before := f.lastJob(0, "test.sleep").JID
	cmd, out := f.command(0, "salt", "*", "test.sleep", "300")
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.lab.Eventually(within, "the job was carried", func() (bool, string) {
		list := f.bridges[0].Phoenix("jobs", "list")
		return f.lastJob(0, "test.sleep").JID != before, list
	})
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // it exits 1
	f.lab.Eventually(within, "the command ends", func() (bool, string) {
		_ = cmd.Process.Signal(os.Interrupt) // 3006.30 misses one that comes while it publishes
		select {
		case <-ended:
			return true, ""
		case <-time.After(2 * time.Second):
			return false, ""
		}
	})
	jid := anyJID.FindString(out.String())
	if !strings.Contains(out.String(), "jid") || jid == "" {
		f.t.Fatalf("it does not say which job it was: %s", out)
	}
	f.kill(jid)
}

// allJobs: the last bridge takes the returns of every master's jobs, the others those of
// their own.
func (f *relayed) allJobs() {
	last, jid := len(f.masters)-1, f.async(0, "*", "test.sleep", "1")
	f.inCache(last, jid, len(f.minions))
	f.inCache(0, jid, len(f.minions))
	f.inCache(1, jid, len(f.minionsWith(func(i int) bool { return i%len(f.masters) == 1 })))
}

func (f *relayed) manage() {
	if up := f.masters[0].Run("salt-run", "--out=json", "manage.up"); strings.Count(up, "web-") != len(f.minions) {
		f.t.Errorf("up are %s", up)
	}
	out := f.masters[1].Run("salt-run", "--out=json", "manage.status")
	var status struct{ Up, Down []string }
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.Up) != len(f.minions) ||
		len(status.Down) != 0 {
		f.t.Errorf("manage.status: %s, %v", out, err)
	}
}

func (f *relayed) orchestrate() {
	text := "pinged:\n  salt.function:\n    - name: test.ping\n    - tgt: '*'\napplied:\n  salt.state:\n    - tgt: '*'\n    - highstate: True\n    - require:\n      - salt: pinged\n"
	if err := os.WriteFile(filepath.Join(f.masters[1].Dir, "states", "orch.sls"), []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
	out := f.masters[1].Run("salt-run", "--out=json", "state.orchestrate", "orch")
	for _, id := range f.all() {
		if strings.Count(out, id) < 2 {
			f.t.Errorf("%s is not in both steps of the orchestration: %s", id, out)
		}
	}
	if strings.Contains(out, `"result": false`) {
		f.t.Errorf("orchestration: %s", out)
	}
	f.ranTimes(1)
}

// call runs salt-call on a minion.
func (f *relayed) call(i int, function string, args ...string) map[string]any {
	f.t.Helper()
	m := f.minions[i]
	out, err := m.Salt.Call(filepath.Dir(m.ConfigPath()), function, append(args, "--out=json")...)
	var answer struct{ Local map[string]any }
	if err == nil {
		err = json.Unmarshal([]byte(out), &answer)
	}
	if err != nil {
		f.t.Fatalf("salt-call %s on %s: %v: %s", function, m.ID, err, out)
	}
	return answer.Local
}

// peerPublish: what a master lets its minions publish reaches those of the others.
func (f *relayed) peerPublish() {
	f.answered(f.call(1, "publish.publish", "*", "test.ping", "timeout=15"), true, f.all()...)
}

// mine: what a minion gives to its master, a minion of another master gets.
func (f *relayed) mine() {
	answers, _ := f.salt(0, "*", "mine.send", "test.echo", "mined")
	f.answered(answers, nil, f.all()...)
	f.lab.Eventually(within, "a minion gets what all gave", func() (bool, string) {
		mined := f.call(1, "mine.get", "*", "test.echo")
		return len(mined) == len(f.minions), fmt.Sprint(mined)
	})
	web := f.minionsWith(func(i int) bool { return role(i) == "web" })
	f.lab.Eventually(within, "a minion gets what those with a grain gave", func() (bool, string) {
		mined := f.call(0, "mine.get", "role:web", "test.echo", "tgt_type=grain")
		return slices.Equal(slices.Sorted(maps.Keys(mined)), web), fmt.Sprint(mined)
	})
}

// newMaster: a master that never met a minion knows all of them.
func (f *relayed) newMaster() {
	o := f.masterOptions()
	o.KeyFrom = f.masters[0]
	m := f.lab.StartMaster(o)
	m.Ready()
	b := f.newBridge(m, "own")
	f.masters, f.bridges = append(f.masters, m), append(f.bridges, b)
	b.Start()
	b.Ready()
	f.together()
	i := len(f.masters) - 1
	f.knowsAll(i)
	f.matchedOn(i)
	answers, _ := f.salt(i, "*", "state.apply")
	f.answered(answers, nil, f.all()...)
	f.ranTimes(1)
}
