package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// plainMaster is a master on which nothing is wrong.
func plainMaster() Master {
	return Master{
		Config:  salt.Config{Path: "/etc/salt/master", User: "salt", PKIDir: "/etc/salt/pki/master", Transport: "zeromq"},
		Version: "3007.15", PID: 7,
		EventBus: Socket{Name: "/run/bus", Listening: true}, RequestPort: Socket{Name: "port 4506", Listening: true},
		IDPattern: "^[a-z0-9-]+$", ValidID: regexp.MustCompile("^[a-z0-9-]+$").MatchString,
	}
}

// plainMinion is a minion on which nothing is wrong.
func plainMinion() Minion {
	settings := map[string]any{"master": []any{"10.0.0.1", "10.0.0.2"}, "master_type": "failover", "master_alive_interval": 15, "retry_dns": 0,
		"tcp_keepalive": true, "tcp_keepalive_idle": 30, "tcp_keepalive_cnt": 3, "tcp_keepalive_intvl": 10, "rejected_retry": true, "cache_jobs": true,
		"minion_jid_queue_hwm": 10000}
	return Minion{
		Config: salt.MinionConfig{Path: "/etc/salt/minion", ID: "web-1", DropIns: "/etc/salt/minion.d", MasterType: "failover",
			Masters: []string{"10.0.0.1", "10.0.0.2"}, Options: maps.Clone(settings)},
		Version: "3007.15", PID: 8, DropIn: settings, MasterKey: strings.Repeat("a", 64), Key: strings.Repeat("b", 64),
	}
}

// plainFleet is a configuration with which nothing is wrong.
func plainFleet() Fleet {
	return Fleet{Config: "/etc/phoenix/phoenix.yaml", Store: "dynamodb:", Socket: "/run/phoenix/bridge.sock", Bridge: &Bridge{Ready: true, Reach: true},
		Tables: []Table{{Name: "minions"}}, Queues: []Reached{{Name: "q"}}, Groups: []Reached{{Name: "g"}},
		Calls: []Call{{Action: "dynamodb:Query", On: "minions"}}, Clock: &Clock{Off: time.Second},
		Proof: &Proof{Wrote: "d", Key: "d"}, OwnKey: "k", Masters: []MasterKey{{"i-1", "k"}}}
}

// Each thing that is wrong is found, by its check, and nothing else is; all that is
// asked for says what mends it.
func TestFindings(t *testing.T) {
	key := func(id string, state salt.State, digest string) Key { return Key{ID: id, State: state, Digest: digest} }
	gone := fmt.Errorf("read: %w", fs.ErrNotExist)
	tests := []struct {
		check    string
		severity Severity
		says     string
		wrong    any // func(*Master), func(*Minion) or func(*Fleet)
	}{
		{"salt-master", Note, "no running master", func(m *Master) { m.PID = 0 }},
		{"salt-config", Warning, "bad.conf", func(m *Master) { m.Config.Skipped = []error{errors.New("read bad.conf:\nline 2")} }},
		{"salt-config", Error, "zeromq only", func(m *Master) { m.Config.Transport = "tcp" }},
		{"event-bus", Warning, "nobody listens on /run/bus", func(m *Master) { m.EventBus.Listening = false }},
		{"request-port", Note, "not known", func(m *Master) { m.RequestPort.Err = fs.ErrPermission }},
		{"key-store", Error, "permission", func(m *Master) { m.KeysErr = fs.ErrPermission }},
		{"key-store", Note, "3 keys more", func(m *Master) { m.KeysLeft = 3 }},
		{"auto-accept", Error, "every key", func(m *Master) { m.Config.AutoAccept = true }},
		{"open-mode", Error, "any key", func(m *Master) { m.Config.OpenMode = true }},
		{"autosign-file", Error, `accepts keys of "*", web-1`, func(m *Master) { m.AutosignFile = Signing{Path: "/a", Patterns: []string{"*", "web-1"}} }},
		{"autosign-file", Note, "nobody yet", func(m *Master) { m.AutosignFile = Signing{Path: "/a"} }},
		{"autosign-grains", Error, `"role: web"`, func(m *Master) { m.AutosignGrains = Signing{Path: "/g", Patterns: []string{"role: web"}} }},
		{"autosign-folder", Error, "web-7", func(m *Master) { m.AutosignFolder = []string{"web-7"} }},
		{"autoreject-file", Warning, "rejects keys of", func(m *Master) { m.AutorejectFile = Signing{Path: "/r", Patterns: []string{"db*"}} }},
		{"autoreject-file", Warning, "denied", func(m *Master) { m.AutorejectFile = Signing{Path: "/r", Err: errors.New("denied")} }},
		{"permissive-pki", Warning, "is on", func(m *Master) { m.Config.PermissivePKI = true }},
		{"reactor", Error, callsAccept, func(m *Master) {
			m.Reactions = []Reaction{{Tag: "salt/auth", File: "/a.sls", Calls: []string{callsAccept}}}
		}},
		{"reactor", Warning, callsStates, func(m *Master) {
			m.Reactions = []Reaction{{Tag: "salt/minion/*/start", File: "/a.sls", Calls: []string{callsStates}}, {Tag: "salt/auth", File: "/o.sls", Ours: true}}
		}},
		{"reactor", Note, "which tell the bridge", func(m *Master) {
			m.Reactions = []Reaction{{Tag: "salt/auth", File: "/a.sls", Calls: []string{callsOld}}}
		}},
		{"reactor", Warning, "no such file", func(m *Master) {
			m.Reactions = []Reaction{{Tag: "salt/auth", File: "/a.sls", Err: errors.New("there is no such file")}}
		}},
		{"old-runners", Error, "/r/key_runner.py", func(m *Master) { m.Runners = []Runner{{Path: "/r/key_runner.py"}, {Path: "/r/phoenix.py", Ours: true}} }},
		{"shared-key", Error, "3 ids have one key (ddd…): a, b, c", func(m *Master) {
			m.Keys = []Key{key("a", salt.Accepted, "ddd"), key("b", salt.Accepted, "ddd"), key("c", salt.Pending, "ddd"), key("d", salt.Accepted, "e")}
			m.Plan = &Plan{}
		}},
		{"key-not-rsa", Warning, "1 key that Phoenix cannot take", func(m *Master) {
			m.Keys = []Key{{ID: "a", State: salt.Pending, Fault: errors.New("not PEM")}}
		}},
		{"id-pattern", Note, `A, "\u202e"`, func(m *Master) { m.Keys = []Key{key("A", salt.Pending, "1"), key("\u202e", salt.Pending, "2")} }},
		{"hidden-key", Warning, "beside an accepted one of the same id: a", func(m *Master) {
			m.Keys = []Key{key("a", salt.Accepted, "1"), key("a", salt.Pending, "2"), key("b", salt.Pending, "3")}
			m.Plan = &Plan{}
		}},
		{"rejected-keys", Note, "1 key rejected: a", func(m *Master) { m.Keys = []Key{key("a", salt.Rejected, "")} }},
		{"denied-keys", Warning, "1 key denied: a", func(m *Master) { m.Keys = []Key{key("a", salt.Denied, "")} }},
		{"what-phoenix-would-do", Note, "0 highstates; 0 deletions; 1 foreign key, never touched", func(m *Master) { m.Keys = []Key{key("a", salt.Accepted, "1"), key("b", salt.Pending, "2")} }},
		{"what-phoenix-would-do", Note, "2 highstates; 3 deletions; 1 foreign key, never touched; 4 keys accepted", func(m *Master) {
			m.Plan = &Plan{Foreign: 1, Highstates: 2, Acts: map[decide.KeyAct]int{decide.DeleteKeys: 3, decide.AcceptKey: 4}}
		}},

		{"salt-minion", Note, "no running minion", func(m *Minion) { m.PID = 0 }},
		{"minion-config", Warning, "left", func(m *Minion) { m.Config.Skipped = []error{errors.New("left")} }},
		{"cache-jobs", Warning, "is off", func(m *Minion) { delete(m.Config.Options, "cache_jobs"); m.DropIn = map[string]any{} }},
		{"jid-queue", Note, "remembers 100 job ids", func(m *Minion) { delete(m.Config.Options, "minion_jid_queue_hwm"); m.DropIn = map[string]any{} }},
		{"masters", Note, "named salt", func(m *Minion) { m.Config.Masters = nil }},
		{"masters", Note, "one master", func(m *Minion) { m.Config.Masters, m.Config.MasterType = []string{"a"}, "str" }},
		{"masters", Note, "until agent.follow is set", func(m *Minion) { m.Config.MasterType, m.DropIn = "str", nil }},
		{"masters", Warning, "master_type is distributed", func(m *Minion) { m.Config.MasterType = "distributed" }},
		{"alive-interval", Warning, "is off", func(m *Minion) { m.set("master_alive_interval", 0) }},
		{"keep-alive", Warning, "ends after 975 s", func(m *Minion) {
			m.set("tcp_keepalive_idle", 300)
			m.set("tcp_keepalive_cnt", -1)
			m.set("tcp_keepalive_intvl", -1)
		}},
		{"keep-alive", Warning, "tcp_keepalive is off", func(m *Minion) { m.set("tcp_keepalive", false) }},
		{"rejected-retry", Note, "is off", func(m *Minion) { m.set("rejected_retry", false) }},
		{"retry-dns", Warning, "retry_dns is 30", func(m *Minion) { m.set("retry_dns", 30) }},
		{"drop-in", Note, "no agent", func(m *Minion) { m.DropIn = nil }},
		{"drop-in", Error, "broken", func(m *Minion) { m.DropInErr = errors.New("broken") }},
		{"drop-in", Warning, "what it says of master", func(m *Minion) { m.Config.Options["master"] = "x" }},
		{"alive-schedule", Warning, "10.0.0.9", func(m *Minion) { m.Alive = []string{"10.0.0.1", "10.0.0.9"} }},
		{"alive-schedule", Warning, "cannot be read", func(m *Minion) { m.AliveErr = errors.New("broken") }},
		{"master-key", Note, "no master yet", func(m *Minion) { m.MasterKeyErr = gone }},
		{"master-key", Warning, "not PEM", func(m *Minion) { m.MasterKeyErr = errors.New("not PEM") }},
		{"startup-states", Warning, "highstate", func(m *Minion) { m.Config.Options["startup_states"] = "highstate" }},

		{"configuration", Note, "only Salt", func(f *Fleet) { f.Config = "" }},
		{"configuration", Error, "unknown key x", func(f *Fleet) { f.ConfigErr = errors.New("unknown key x") }},
		{"bridge", Note, "none answers", func(f *Fleet) { f.Bridge, f.BridgeErr = nil, gone }},
		{"bridge", Error, "does not reach", func(f *Fleet) { f.Bridge.Reach = false }},
		{"bridge", Warning, "event bus: away", func(f *Fleet) { f.Bridge.Bus = "away" }},
		{"bridge", Warning, "held up: x", func(f *Fleet) { f.Bridge.Held = "x" }},
		{"bridge", Warning, "holds 3 terminations", func(f *Fleet) { f.Bridge.Brake = 3 }},
		{"bridge", Warning, "not ready: keys are not compared", func(f *Fleet) { f.Bridge.Ready, f.Bridge.Why = false, "keys are not compared" }},
		{"bridge", Error, "another bridge", func(f *Fleet) { f.Bridge.Twin = "m: another bridge runs" }},
		{"bridge", Error, "does not serve: no worker", func(f *Fleet) {
			f.Bridge.Ready, f.Bridge.Unproven, f.Bridge.Why = false, true, "no worker answers"
		}},
		{"relay", Error, "stay on this master: it does not sign", func(f *Fleet) { f.Bridge.Relay = &Relay{Deaf: "it does not sign"} }},
		{"relay", Error, "minions of salt-2 (no route)", func(f *Fleet) { f.Bridge.Relay = &Relay{Away: []string{"salt-2 (no route)"}} }},
		{"relay", Warning, "this master only: no cache", func(f *Fleet) { f.Bridge.Relay = &Relay{Data: "no cache"} }},
		{"store", Note, "not exist", func(f *Fleet) { f.StoreErr = gone }},
		{"store", Error, "damaged", func(f *Fleet) { f.StoreErr = errors.New("damaged") }},
		{"store-rows", Error, "1 cannot be decoded, and are left out everywhere: row web-1 is damaged", func(f *Fleet) { f.BadRows = []error{errors.New("row web-1 is damaged")} }},
		{"tables", Note, "was not looked at", func(f *Fleet) { f.Tables[0].Err = errors.New("denied") }},
		{"tables", Error, "no index", func(f *Fleet) { f.Tables[0].Faults = []string{"no index"} }},
		{"queues", Error, "gone", func(f *Fleet) { f.Queues[0].Err = errors.New("gone") }},
		{"groups", Error, "gone", func(f *Fleet) { f.Groups[0].Err = errors.New("gone") }},
		{"clock", Error, "5m0s off", func(f *Fleet) { f.Clock.Off = -5 * time.Minute }},
		{"clock", Note, "not known", func(f *Fleet) { f.Clock.Err = gone }},
		{"permissions", Error, "IAM denies dynamodb:Query on minions", func(f *Fleet) { f.Calls[0].Denied = true }},
		{"permissions", Note, "not known", func(f *Fleet) { f.Calls[0].Err = gone }},
		{"proof", Warning, "has written none", func(f *Fleet) { f.Proof.Wrote = "" }},
		{"proof", Warning, "the minion's key is", func(f *Fleet) { f.Proof.Wrote = "e" }},
		{"proof", Warning, "not exist", func(f *Fleet) { f.Proof.Err = gone }},
		{"fleet-key", Error, "another is that of i-2", func(f *Fleet) { f.Masters = append(f.Masters, MasterKey{"i-2", "other"}) }},
		{"follow", Note, "up to 10 of 100 minions are down to one master", func(f *Fleet) { f.Follow = followOf(3, 100, 190, 2) }},
		{"follow", Warning, "up to 11 of 100 minions are down to one master", func(f *Fleet) { f.Follow = followOf(3, 100, 189, 2) }},
		{"follow", Warning, "one serves: all are down to one", func(f *Fleet) { f.Follow = followOf(1, 100, 100, 2) }},
	}
	tried := map[string]bool{}
	for _, test := range tests {
		tried[test.check] = true
		var findings []Finding
		switch wrong := test.wrong.(type) {
		case func(*Master):
			m := plainMaster()
			wrong(&m)
			findings = ExamineMaster(m)
		case func(*Minion):
			m := plainMinion()
			wrong(&m)
			findings = ExamineMinion(m)
		case func(*Fleet):
			f := plainFleet()
			wrong(&f)
			findings = ExamineFleet(f)
		}
		findings = slices.DeleteFunc(findings, func(f Finding) bool { return f.Severity == OK })
		found := slices.IndexFunc(findings, func(f Finding) bool { return f.Check == test.check })
		if found < 0 || findings[found].Severity != test.severity || !strings.Contains(findings[found].What, test.says) || findings[found].Why == "" {
			t.Errorf("%s, %s, %q: found %+v", test.check, test.severity, test.says, findings)
			continue
		}
		for _, f := range findings {
			if Worst([]Finding{f, {Severity: test.severity}}) != test.severity {
				t.Errorf("%s, %q: found, too, %+v", test.check, test.says, f)
			}
			if strings.ContainsAny(f.What+f.Mend, "\n\u202e") {
				t.Errorf("%+v is not one line of plain text", f)
			}
			if f.Mend == "" && (f.Severity == Error || f.Severity == Warning) {
				t.Errorf("%+v does not say what mends it", f)
			}
		}
	}
	for _, c := range Checks() {
		if !tried[c.Name] {
			t.Errorf("nothing is ever wrong by %s", c.Name)
		}
	}
}

func (m *Minion) set(option string, value any) {
	m.Config.Options[option] = value
	m.DropIn = map[string]any{}
}

// Where nothing is wrong, nothing is found.
func TestNothingIsFound(t *testing.T) {
	for _, findings := range [][]Finding{ExamineMaster(plainMaster()), ExamineMinion(plainMinion()), ExamineFleet(plainFleet())} {
		if worst := Worst(findings); worst != OK || len(findings) < 5 {
			t.Errorf("found %+v", findings)
		}
	}
}

func TestTheWorstComesFirst(t *testing.T) {
	findings := []Finding{{OK, "tables", "", "", ""}, {Note, "masters", "", "", ""}, {Error, "store", "", "", ""}, {Error, "open-mode", "", "", ""}, {Warning, "reactor", "", "", ""}}
	Sort(findings)
	var order []string
	for _, f := range findings {
		order = append(order, f.Check)
	}
	if want := []string{"open-mode", "store", "reactor", "masters", "tables"}; !slices.Equal(order, want) {
		t.Errorf("%v, not %v", order, want)
	}
}

// The reactors of 2015, of Phoenix, and of others are told apart by their text.
func TestReactions(t *testing.T) {
	dir := t.TempDir()
	shipped := filepath.Join("..", "..", "salt-extensions", "reactor")
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct {
		tag, file string
		want      []Reaction
	}{
		{"salt/auth", filepath.Join(shipped, "auth.sls"), []Reaction{{Calls: []string{callsOld}, Ours: true}}},
		{"salt/key", filepath.Join(shipped, "key.sls"), []Reaction{{Calls: []string{callsOld}, Ours: true}}},
		{"salt/minion/*/start", filepath.Join(shipped, "start.sls"), []Reaction{{Calls: []string{callsOld}, Ours: true}}},
		{"salt/auth", filepath.Join("..", "..", "lab", "bench", "seed", "auth.sls"), []Reaction{{Calls: []string{callsOld}}}},
		{"salt/a*", write("accept.sls", "{% if data['act'] == 'pend' %}\nx:\n  wheel.key.accept:\n    - args: [{match: {{ data['id'] }}}]\n{% endif %}\n"), []Reaction{{Calls: []string{callsAccept}}}},
		{"*", write("high.sls", "phoenix_start:\n  local.state.apply:\n    - tgt: {{ data['id'] }}\n"), []Reaction{{Calls: []string{callsStates}}}},
		{"salt/minion/i-*/start", write("sync.sls", "# wheel.key.accept\n{# key.accept #}\nx:\n  local.saltutil.sync_all: []\n"), []Reaction{{}}},
		{"salt/job/*/ret/*", write("ret.sls", "wheel.key.accept"), nil},
		{"salt/auth", filepath.Join(dir, "none*.sls"), []Reaction{{Err: errors.New("there is no such file")}}},
		{"salt/auth", "salt://react.sls", []Reaction{{Err: errors.New("it lies on the fileserver")}}},
	} {
		got := lookAtReaction(salt.Reaction{Tag: test.tag, Files: []string{test.file}})
		for i := range test.want {
			test.want[i].Tag, test.want[i].File = test.tag, test.file
		}
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", test.want) {
			t.Errorf("on %s, %s: %+v, not %+v", test.tag, test.file, got, test.want)
		}
	}
}

// What stands in files is read as Salt reads it.
func TestSigningFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "role"), []byte("# who\n\n web \ndb*\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s := readSigning(filepath.Join(dir, "role")); s.Err != nil || !slices.Equal(s.Patterns, []string{"web", "db*"}) {
		t.Errorf("%+v", s)
	}
	if s := readGrains(dir); s.Err != nil || !slices.Equal(s.Patterns, []string{"role: web", "role: db*"}) {
		t.Errorf("%+v", s)
	}
	if s := readSigning(filepath.Join(dir, "none")); s.Err != nil || s.Patterns != nil {
		t.Errorf("%+v", s)
	}
	if s := readSigning(dir); s.Err == nil {
		t.Error("a folder was read as a file")
	}
}

// Runners are told from others by what they do.
func TestRunnersOfOurs(t *testing.T) {
	ours := filepath.Join("..", "..", "salt-extensions", "_runners")
	seed := filepath.Join("..", "..", "lab", "bench", "seed")
	found := lookAtRunners([]string{ours, seed, "/nowhere"})
	want := []Runner{{filepath.Join(ours, "key_runner.py"), true}, {filepath.Join(ours, "highstate_runner.py"), true},
		{filepath.Join(ours, "phoenix.py"), true}, {filepath.Join(seed, "key_runner.py"), false}}
	if !slices.Equal(found, want) {
		t.Errorf("%+v, not %+v", found, want)
	}
}

// docs/doctor.md has each check, as the code has it.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "doctor.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{OnMaster, OnMinion, WithConfig} {
		table := "| check | looks at | why it matters |\n|---|---|---|\n"
		for _, c := range Checks() {
			if c.Where == where {
				table += fmt.Sprintf("| `%s` | %s | %s |\n", c.Name, c.Looks, c.Why)
			}
		}
		if !strings.Contains(string(text), table) {
			t.Errorf("docs/doctor.md has not this table of what is looked at (%s):\n%s", where, table)
		}
	}
}

// A minion that follows several masters because its agent says so is as it should be.
func TestFollowsSeveral(t *testing.T) {
	m := plainMinion()
	m.Config.MasterType, m.DropIn = "str", map[string]any{"master_type": "str"}
	for _, f := range ExamineMinion(m) {
		if f.Check == "masters" && (f.Severity != OK || !strings.Contains(f.What, "follows 2 at once")) {
			t.Errorf("%+v", f)
		}
	}
}

func followOf(masters, minions, connections, number int) Follow {
	return Follow{fleet.Following{Masters: masters, Minions: minions, Connections: connections}, number}
}

func TestFollowIsWell(t *testing.T) {
	for want, f := range map[string]Follow{
		"200 connections of 100 minions to 3 masters: none is down to one":      followOf(3, 100, 200, 2),
		"90 connections to 3 masters; each minion follows one master at a time": followOf(3, 100, 90, 1),
	} {
		var r report
		examineFollow(&r, f)
		if len(r.findings) != 1 || r.findings[0].Severity != OK || !strings.Contains(fmt.Sprint(r.findings), want) {
			t.Errorf("found %+v, want %q", r.findings, want)
		}
	}
}
