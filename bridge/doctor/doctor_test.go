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
		Config: salt.Config{Path: "/etc/salt/master", User: "salt", PKIDir: "/etc/salt/pki/master",
			DropIns: "/etc/salt/master.d", Transport: "zeromq"},
		Version: "3007.15", PID: 7,
		EventBus: Socket{Name: "/run/bus", Listening: true}, RequestPort: Socket{Name: "port 4506", Listening: true},
		IDPattern: "^[a-z0-9-]+$", ValidID: regexp.MustCompile("^[a-z0-9-]+$").MatchString,
	}
}

// plainMinion is a minion on which nothing is wrong.
func plainMinion() Minion {
	settings := map[string]any{"master": []any{"10.0.0.1", "10.0.0.2"}, "master_type": "failover",
		"master_alive_interval": 15, "retry_dns": 0,
		"tcp_keepalive": true, "tcp_keepalive_idle": 30, "tcp_keepalive_cnt": 3, "tcp_keepalive_intvl": 10,
		"rejected_retry": true, "cache_jobs": true,
		"minion_jid_queue_hwm": 10000}
	return Minion{
		Config: salt.MinionConfig{Path: "/etc/salt/minion", ID: "web-1", DropIns: "/etc/salt/minion.d",
			MasterType: "failover",
			Masters:    []string{"10.0.0.1", "10.0.0.2"}, Options: maps.Clone(settings)},
		Version: "3007.15", PID: 8, DropIn: settings, AgentRuns: true, AgentKnown: true,
		MasterKey: strings.Repeat("a", 64), Key: strings.Repeat("b", 64),
	}
}

// plainFleet is a configuration with which nothing is wrong.
func plainFleet() Fleet {
	return Fleet{Config: "/etc/phoenix/phoenix.yaml", Store: "dynamodb:", Socket: "/run/phoenix/bridge.sock",
		Bridge: &Bridge{Ready: true, Reach: true},
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
		{"salt-master", Error, "does not run",
			func(m *Master) { m.PID, m.RequestPort.Listening, m.EventBus.Listening = 0, false, false }},
		{"salt-config", Warning, "bad.conf",
			func(m *Master) { m.Config.Skipped = []error{errors.New("read bad.conf:\nline 2")} }},
		{"salt-config", Error, "zeromq or tcp", func(m *Master) { m.Config.Transport = "ws" }},
		{"event-bus", Warning, "nobody listens on /run/bus", func(m *Master) { m.EventBus.Listening = false }},
		{"auth-events", Warning, "is off", func(m *Master) { m.Config.Options = map[string]any{"auth_events": false} }},
		{"request-port", Warning, "nobody listens on port 4506", func(m *Master) { m.RequestPort.Listening = false }},
		{"request-port", Note, "not known", func(m *Master) { m.RequestPort.Err = fs.ErrPermission }},
		{"key-store", Error, "permission", func(m *Master) { m.KeysErr = fs.ErrPermission }},
		{"key-store", Note, "3 keys more", func(m *Master) { m.KeysLeft = 3 }},
		{"auto-accept", Error, "auto_accept is on", func(m *Master) { m.Config.AutoAccept = true }},
		{"open-mode", Error, "any key", func(m *Master) { m.Config.OpenMode = true }},
		{"autosign-file", Error, `accepts keys of "*", web-1`,
			func(m *Master) { m.AutosignFile = Signing{Path: "/a", Patterns: []string{"*", "web-1"}} }},
		{"autosign-file", Note, "nobody yet", func(m *Master) { m.AutosignFile = Signing{Path: "/a"} }},
		{"autosign-grains", Error, `"role: web"`,
			func(m *Master) { m.AutosignGrains = Signing{Path: "/g", Patterns: []string{"role: web"}} }},
		{"autosign-folder", Error, "web-7", func(m *Master) { m.AutosignFolder = []string{"web-7"} }},
		{"autoreject-file", Warning, "rejects keys of",
			func(m *Master) { m.AutorejectFile = Signing{Path: "/r", Patterns: []string{"db*"}} }},
		{"autoreject-file", Warning, "denied",
			func(m *Master) { m.AutorejectFile = Signing{Path: "/r", Err: errors.New("denied")} }},
		{"permissive-pki", Warning, "is on", func(m *Master) { m.Config.PermissivePKI = true }},
		{"reactor", Error, callsAccept, func(m *Master) {
			m.Actors = []Actor{{Check: "reactor", On: "salt/job/*/ret/*", File: "/a.sls", Calls: []string{callsAccept}}}
		}},
		{"reactor", Warning, callsStates, func(m *Master) {
			m.Actors = []Actor{{Check: "reactor", On: "salt/minion/*/start", File: "/a.sls",
				Calls: []string{callsStates}, Ear: true},
				{Check: "reactor", On: "salt/auth", File: "/o.sls", Ours: true}}
		}},
		{"reactor", Note, callsStates, func(m *Master) {
			m.Actors = []Actor{{Check: "reactor", On: "salt/beacon/*/load", File: "/a.sls",
				Calls: []string{callsStates}}}
		}},
		{"reactor", Note, "which pass it on to the bridge", func(m *Master) {
			m.Actors = []Actor{{Check: "reactor", On: "salt/auth", File: "/a.sls",
				Calls: []string{callsOld}, Ear: true}}
		}},
		{"reactor", Warning, "no such file", func(m *Master) {
			m.Actors = []Actor{{Check: "reactor", On: "salt/auth", File: "/a.sls",
				Err: errors.New("there is no such file"), Ear: true}}
		}},
		{"engines", Error, "the one of sqs.queues", func(m *Master) {
			m.Queues, m.Actors = []string{"fleet"},
				[]Actor{{Check: "engines", On: "sqs_events", File: "fleet", Calls: []string{takesQueue}}}
		}},
		{"engines", Warning, "changes keys",
			func(m *Master) { m.Actors = []Actor{{Check: "engines", On: "stalekey", Calls: []string{callsKeys}}} }},
		{"master-schedule", Warning, "runs states", func(m *Master) {
			m.Actors = []Actor{{Check: "master-schedule", On: "nightly", Calls: []string{callsStates}}}
		}},
		{"orchestration", Warning, "accepts keys when it is run", func(m *Master) {
			m.Actors = []Actor{{Check: "orchestration", On: "orch/a.sls", File: "/srv/salt/orch/a.sls",
				Calls: []string{callsAccept}}}
		}},
		{"job-cache", Warning, "no job is published while it fails",
			func(m *Master) { m.Config.Options = map[string]any{"master_job_cache": "redis"} }},
		{"job-cache", Error, "generates its own jids", func(m *Master) {
			m.Config.Options, m.Returner = map[string]any{"master_job_cache": "ours"}, Returner{Path: "/r/ours.py"}
		}},
		{"job-cache", Error, "1 folder of the job cache with another owner than salt",
			func(m *Master) { m.ForeignJobs = []string{"/var/cache/salt/master/jobs/0a"} }},
		{"job-cache", Note, "the master gets none",
			func(m *Master) { m.Config.Options = map[string]any{"ext_job_cache": "mysql"} }},
		{"publisher-blacklist", Error, "user salt, state.highstate, test.ping", func(m *Master) {
			m.Config.Options = map[string]any{"publisher_acl_blacklist": map[string]any{"users": []any{"root", "s.*"},
				"modules": []any{"state.*", "test\\.ping", "("}}}
		}},
		{"shared-folders", Warning, "cachedir /var/cache/salt is on nfs4 (fs-1:/)", func(m *Master) {
			m.Config.CacheDir, m.Mounts = "/var/cache/salt",
				[]Mount{{"/", "ext4", "/dev/a"}, {"/var/cache", "nfs4", "fs-1:/"}, {"/var/cache/sal", "ext4", "/dev/b"}}
		}},
		{"shared-folders", Warning, "cachedir /var/cache/salt is the one of another master on this machine, too (/srv/b/master)", func(m *Master) {
			m.Config.CacheDir, m.Shared = "/var/cache/salt", []SharedFolder{{"cachedir", "/srv/b/master"}}
		}},
		{"cron", Error, "accepts keys", func(m *Master) {
			m.Cron = []CronJob{{File: "/etc/cron.d/salt", Line: "* * * * * root salt-key -yA",
				Calls: []string{callsAccept}}, {Calls: []string{callsStates}, Minion: true}}
		}},
		{"cron", Warning, "runs states",
			func(m *Master) { m.Cron = []CronJob{{File: "/etc/crontab", Calls: []string{callsStates}}} }},
		{"cron", Note, "not all crontabs", func(m *Master) { m.CronErr = fs.ErrPermission }},
		{"old-runners", Error, "/r/key_runner.py",
			func(m *Master) { m.Runners = []Runner{{Path: "/r/key_runner.py"}, {Path: "/r/phoenix.py", Ours: true}} }},
		{"shared-key", Error, "3 ids have one key (ddd…): a, b, c", func(m *Master) {
			m.Keys = []Key{key("a", salt.Accepted, "ddd"), key("b", salt.Accepted, "ddd"),
				key("c", salt.Pending, "ddd"), key("d", salt.Accepted, "e")}
			m.Plan = &Plan{}
		}},
		{"key-not-rsa", Warning, "1 key that Phoenix cannot take", func(m *Master) {
			m.Keys = []Key{{ID: "a", State: salt.Pending, Fault: errors.New("not PEM")}}
		}},
		{"what-phoenix-would-do", Note, "not known: the store cannot be read", func(m *Master) { m.Unplanned = true }},
		{"odd-keys", Warning, "1 key that are links", func(m *Master) {
			m.Keys = []Key{{ID: "link", Fault: errors.New("a link"), Paths: []string{"/pki/minions/link"}}}
		}},
		{"odd-keys", Warning, "1 key that are links", func(m *Master) {
			m.Keys = []Key{{ID: "none", State: salt.Pending, Fault: errors.New("empty"), Empty: true}}
		}},
		{"id-case", Warning, "differ in case alone: WEB-1, web-1", func(m *Master) {
			m.IDPattern, m.ValidID = ".", func(string) bool { return true }
			m.Keys = []Key{key("web-1", salt.Accepted, "1"), key("WEB-1", salt.Pending, "2")}
			m.Plan = &Plan{}
		}},
		{"id-pattern", Note, `A, "\u202e"`,
			func(m *Master) { m.Keys = []Key{key("A", salt.Pending, "1"), key("\u202e", salt.Pending, "2")} }},
		{"hidden-key", Warning, "beside an accepted one of the same id: a", func(m *Master) {
			m.Keys = []Key{key("a", salt.Accepted, "1"), key("a", salt.Pending, "2"), key("b", salt.Pending, "3")}
			m.Plan = &Plan{}
		}},
		{"rejected-keys", Note, "1 key rejected: a", func(m *Master) { m.Keys = []Key{key("a", salt.Rejected, "")} }},
		{"denied-keys", Warning, "1 key denied: a", func(m *Master) { m.Keys = []Key{key("a", salt.Denied, "")} }},
		{"what-phoenix-would-do", Warning, "the accepted key is not the one that is bound to the minion: web-1",
			func(m *Master) { m.Plan = &Plan{OtherKeys: []string{"web-1"}} }},
		{"what-phoenix-would-do", Note, "0 highstates; 0 deletions; 1 foreign key, never touched",
			func(m *Master) { m.Keys = []Key{key("a", salt.Accepted, "1"), key("b", salt.Pending, "2")} }},
		{"what-phoenix-would-do", Note, "2 highstates; 3 deletions; 1 foreign key, never touched; 4 keys accepted",
			func(m *Master) {
				m.Plan = &Plan{Foreign: 1, Highstates: 2,
					Acts: map[decide.KeyAct]int{decide.DeleteKeys: 3, decide.AcceptKey: 4}}
			}},

		{"salt-minion", Warning, "no running minion", func(m *Minion) { m.PID = 0 }},
		{"minion-config", Warning, "left", func(m *Minion) { m.Config.Skipped = []error{errors.New("left")} }},
		{"cache-jobs", Warning, "is off",
			func(m *Minion) { delete(m.Config.Options, "cache_jobs"); m.DropIn = map[string]any{} }},
		{"jid-queue", Note, "remembers 100 job ids",
			func(m *Minion) { delete(m.Config.Options, "minion_jid_queue_hwm"); m.DropIn = map[string]any{} }},
		{"masters", Note, "named salt", func(m *Minion) { m.Config.Masters = nil }},
		{"masters", Note, "one master",
			func(m *Minion) { m.Config.Masters, m.Config.MasterType = []string{"a"}, "str" }},
		{"masters", Note, "until agent.follow is set", func(m *Minion) { m.Config.MasterType, m.DropIn = "str", nil }},
		{"masters", Warning, "master_type is distributed", func(m *Minion) { m.Config.MasterType = "distributed" }},
		{"alive-interval", Warning, "is off", func(m *Minion) { m.with("master_alive_interval", 0) }},
		{"keep-alive", Warning, "ends after 975 s", func(m *Minion) {
			m.with("tcp_keepalive_idle", 300)
			m.with("tcp_keepalive_cnt", -1)
			m.with("tcp_keepalive_intvl", -1)
		}},
		{"keep-alive", Warning, "tcp_keepalive is off", func(m *Minion) { m.with("tcp_keepalive", false) }},
		{"rejected-retry", Note, "is off", func(m *Minion) { m.with("rejected_retry", false) }},
		{"retry-dns", Warning, "retry_dns is 30", func(m *Minion) { m.with("retry_dns", 30) }},
		{"drop-in", Note, "no agent", func(m *Minion) { m.DropIn = nil }},
		{"drop-in", Error, "broken", func(m *Minion) { m.DropInErr = errors.New("broken") }},
		{"drop-in", Warning, "what it says of master", func(m *Minion) { m.Config.Options["master"] = "x" }},
		{"agent", Warning, "does not run", func(m *Minion) { m.AgentRuns = false }},
		{"alive-schedule", Warning, "10.0.0.9", func(m *Minion) { m.Alive = []string{"10.0.0.1", "10.0.0.9"} }},
		{"alive-schedule", Warning, "cannot be read", func(m *Minion) { m.AliveErr = errors.New("broken") }},
		{"master-key", Note, "no master yet", func(m *Minion) { m.MasterKeyErr = gone }},
		{"master-key", Warning, "not PEM", func(m *Minion) { m.MasterKeyErr = errors.New("not PEM") }},
		{"test-mode", Warning, "changes nothing", func(m *Minion) { m.Config.Options["test"] = true }},
		{"file-client", Error, "is local", func(m *Minion) { m.Config.Options["file_client"] = "local" }},
		{"modules", Error, "leaves out state.highstate",
			func(m *Minion) { m.Config.Options["disable_modules"] = []any{"state", "lowstate"} }},
		{"modules", Error, "leaves out saltutil.find_job, saltutil.find_cached_job",
			func(m *Minion) { m.Config.Options["whitelist_modules"] = []any{"test", "state", "config"} }},
		{"master-order", Warning, "random_master is on", func(m *Minion) { m.Config.Options["random_master"] = true }},
		{"master-order", Warning, "master_failback is on",
			func(m *Minion) { m.Config.Options["master_failback"] = true }},
		{"schedule", Warning, "at each start", func(m *Minion) {
			m.Config.Options["schedule"] = map[string]any{"high": map[string]any{"function": "state.apply",
				"minutes": 60, "run_on_start": true},
				"off": map[string]any{"function": "state.apply", "enabled": false}}
		}},
		{"schedule", Note, "by its schedule", func(m *Minion) {
			m.Schedule = map[string]any{"high": map[string]any{"function": "state.highstate", "minutes": 60}}
		}},
		{"schedule", Warning, "when the machine starts", func(m *Minion) {
			m.Cron = []CronJob{{File: "/etc/crontab", Line: "@reboot root salt-call state.apply",
				Calls: []string{callsStates}, Boot: true, Minion: true}, {Calls: []string{callsAccept}}}
		}},
		{"unit", Warning, "(KillMode=mixed, TimeoutStopSec=90)",
			func(m *Minion) { m.Unit = Unit{"/lib/salt-minion.service", "mixed", 90} }},
		{"unit", Warning, "(KillMode=control-group, TimeoutStopSec=systemd's own)",
			func(m *Minion) { m.Unit = Unit{Path: "/lib/salt-minion.service"} }},
		{"unit", Note, "ignores SIGTERM", func(m *Minion) { m.Unit = Unit{"/lib/salt-minion.service", "process", 0} }},
		{"master-names", Warning, "no address is known for nowhere",
			func(m *Minion) { m.Reach = map[string]Reach{"nowhere": {NameErr: gone}} }},
		{"master-ports", Warning, "nothing answers at salt port 4505",
			func(m *Minion) { m.Reach = map[string]Reach{"salt": {Closed: []int{4505}}} }},
		{"startup-states", Warning, "highstate", func(m *Minion) { m.Config.Options["startup_states"] = "highstate" }},

		{"configuration", Note, "only Salt", func(f *Fleet) { f.Config = "" }},
		{"configuration", Error, "unknown key x", func(f *Fleet) { f.ConfigErr = errors.New("unknown key x") }},
		{"bridge", Note, "none answers", func(f *Fleet) { f.Bridge, f.BridgeErr = nil, gone }},
		{"bridge", Note, "none answers", func(f *Fleet) { f.Bridge, f.BridgeErr, f.Foreign = nil, gone, 3 }},
		{"bridge", Warning, "none answers", func(f *Fleet) { f.Bridge, f.BridgeErr, f.Rows = nil, gone, true }},
		{"bridge", Error, "does not reach", func(f *Fleet) { f.Bridge.Reach = false }},
		{"bridge", Warning, "does not receive events: away", func(f *Fleet) { f.Bridge.Bus = "away" }},
		{"bridge", Warning, "delayed: x", func(f *Fleet) { f.Bridge.Held = "x" }},
		{"bridge", Warning, "no new first highstate starts: it is open",
			func(f *Fleet) { f.Bridge.Breaker = "it is open" }},
		{"bridge", Warning, "3 terminations wait", func(f *Fleet) { f.Bridge.OverLimit = 3 }},
		{"bridge", Warning, "not ready: keys are not compared",
			func(f *Fleet) { f.Bridge.Ready, f.Bridge.Why = false, "keys are not compared" }},
		{"bridge", Error, "another bridge", func(f *Fleet) { f.Bridge.Twin = "m: another bridge runs" }},
		{"bridge", Error, "does not serve: no worker", func(f *Fleet) {
			f.Bridge.Ready, f.Bridge.Unproven, f.Bridge.Why = false, true, "no worker answers"
		}},
		{"relay", Error, "stay on this master: it does not sign",
			func(f *Fleet) { f.Bridge.Relay = &Relay{Deaf: "it does not sign"} }},
		{"relay", Error, "minions of salt-2 (no route)",
			func(f *Fleet) { f.Bridge.Relay = &Relay{Away: []string{"salt-2 (no route)"}} }},
		{"relay", Warning, "this master only: no cache", func(f *Fleet) { f.Bridge.Relay = &Relay{Data: "no cache"} }},
		{"removed-keys", Warning, "2 accepted keys deleted by hand on this master: web-1, web-2",
			func(f *Fleet) { f.Bridge.Removed, f.Bridge.RemovedAll = []string{"web-1", "web-2"}, 2 }},
		{"store", Note, "not exist", func(f *Fleet) { f.StoreErr = gone }},
		{"store", Error, "away", func(f *Fleet) { f.StoreErr = errors.New("away") }},
		{"store", Error, "damaged", func(f *Fleet) { f.StoreErr = fleet.ErrCorrupt }},
		{"bridge", Error, "does not reach its store: database or disk is full",
			func(f *Fleet) { f.Bridge.Reach, f.Bridge.StoreErr = false, "database or disk is full" }},
		{"bridge", Warning, "its last heartbeat was not written: throttled",
			func(f *Fleet) { f.Bridge.StoreErr = "throttled" }},
		{"store-rows", Error, "1 cannot be decoded, and are left out everywhere: row web-1 is damaged",
			func(f *Fleet) { f.BadRows = []error{errors.New("row web-1 is damaged")} }},
		{"tables", Note, "was not read", func(f *Fleet) { f.Tables[0].Err = errors.New("denied") }},
		{"tables", Error, "no index", func(f *Fleet) { f.Tables[0].Faults = []string{"no index"} }},
		{"queues", Error, "gone", func(f *Fleet) { f.Queues[0].Err = errors.New("gone") }},
		{"groups", Error, "gone", func(f *Fleet) { f.Groups[0].Err = errors.New("gone") }},
		{"clock", Error, "5m0s off", func(f *Fleet) { f.Clock.Off = -5 * time.Minute }},
		{"clock", Error, "5m0s off", func(f *Fleet) { f.Clock.Off, f.Clock.Chrony = 5*time.Minute, true }},
		{"clock", Note, "not known", func(f *Fleet) { f.Clock.Err = gone }},
		{"permissions", Error, "IAM denies dynamodb:Query on minions", func(f *Fleet) { f.Calls[0].Denied = true }},
		{"permissions", Note, "not known", func(f *Fleet) { f.Calls[0].Err = gone }},
		{"proof", Warning, "has written none", func(f *Fleet) { f.Proof.Wrote = "" }},
		{"proof", Warning, "the minion's key is", func(f *Fleet) { f.Proof.Wrote = "e" }},
		{"proof", Warning, "not exist", func(f *Fleet) { f.Proof.Err = gone }},
		{"fleet-key", Error, "another is that of i-2",
			func(f *Fleet) { f.Masters = append(f.Masters, MasterKey{"i-2", "other"}) }},
		{"follow", Note, "up to 10 of 100 minions have only one master left",
			func(f *Fleet) { f.Follow = followOf(3, 100, 190, 2) }},
		{"follow", Warning, "up to 11 of 100 minions have only one master left",
			func(f *Fleet) { f.Follow = followOf(3, 100, 189, 2) }},
		{"follow", Warning, "one serves: each minion has only one master",
			func(f *Fleet) { f.Follow = followOf(1, 100, 100, 2) }},
	}
	tried, printed := map[string]bool{}, map[string]bool{}
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
		if found < 0 || findings[found].Severity != test.severity ||
			!strings.Contains(findings[found].What, test.says) || findings[found].Why == "" {
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
			printed[f.Check] = printed[f.Check] || len(f.Commands) > 0
		}
	}
	for _, c := range Checks() {
		if !tried[c.Name] {
			t.Errorf("nothing is ever wrong by %s", c.Name)
		}
		if run := RunAsPrinted[c.Name] != ""; printed[c.Name] != run {
			t.Errorf("%s prints commands: %v; a test runs them: %v", c.Name, printed[c.Name], run)
		}
	}
}

func (m *Minion) with(option string, value any) {
	m.Config.Options[option] = value
	m.DropIn = map[string]any{}
}

// The commands of fixes keep the flags that doctor was called with, and whoever reads of a
// denied key is sent to look before anything is deleted.
func TestFixesKeepFlags(t *testing.T) {
	m := plainMaster()
	m.Phoenix = "phoenix"
	m.Keys = []Key{{ID: "web-1", State: salt.Denied, Digest: "d"}, {ID: "web-1", State: salt.Accepted, Digest: "a"},
		{ID: "no-1", State: salt.Accepted, Fault: errors.New("no key")}}
	findings := ExamineMaster(m)
	CalledWith(findings, map[string]string{"config": "/srv/a b.yaml"})
	mend := map[string]Finding{}
	for _, f := range findings {
		mend[f.Check] = f
	}
	const program = "phoenix --config '/srv/a b.yaml' "
	if f := mend["denied-keys"]; len(f.Commands) > 0 ||
		f.Mend != "look first: "+program+"minions explain web-1; if the machine was rebuilt: "+program+
			"keys accept --rebind web-1; if no machine is to have that key: "+program+
			"keys delete web-1 --state denied" {
		t.Errorf("%+v", f)
	}
	if f := mend["key-not-rsa"]; !slices.Equal(f.Commands, []string{program + "keys delete no-1 --state accepted"}) ||
		!strings.HasPrefix(f.Mend, f.Commands[0]) {
		t.Errorf("%+v", f)
	}
	if f := mend["what-phoenix-would-do"]; strings.Count(f.Mend, program+"adopt") != 2 {
		t.Errorf("%+v", f)
	}
}

// Where nothing is wrong, nothing is found.
func TestNothingIsFound(t *testing.T) {
	for _, findings := range [][]Finding{ExamineMaster(plainMaster()), ExamineMinion(plainMinion()),
		ExamineFleet(plainFleet())} {
		if worst := Worst(findings); worst != OK || len(findings) < 5 {
			t.Errorf("found %+v", findings)
		}
	}
}

func TestTheWorstComesFirst(t *testing.T) {
	findings := []Finding{{Severity: OK, Check: "tables"}, {Severity: Note, Check: "masters"},
		{Severity: Error, Check: "store"}, {Severity: Error, Check: "open-mode"}, {Severity: Warning, Check: "reactor"}}
	Sort(findings)
	var order []string
	for _, f := range findings {
		order = append(order, f.Check)
	}
	if want := []string{"open-mode", "store", "reactor", "masters", "tables"}; !slices.Equal(order, want) {
		t.Errorf("%v, not %v", order, want)
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
	found := readRunners([]string{ours, seed, "/nowhere"})
	want := []Runner{{filepath.Join(ours, "key_runner.py"), true}, {filepath.Join(ours, "highstate_runner.py"), true},
		{filepath.Join(ours, "phoenix.py"), true}, {filepath.Join(seed, "key_runner.py"), false}}
	if !slices.Equal(found, want) {
		t.Errorf("%+v, not %+v", found, want)
	}
}

// docs/doctor.md has each check, as "make docs" writes it.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "doctor.md"))
	if err != nil {
		t.Fatal(err)
	}
	if want, err := Document(string(text)); err != nil || want != string(text) {
		t.Errorf("docs/doctor.md is not what make docs writes: %v", err)
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
		"200 connections of 100 minions to 3 masters: none has only one master left": followOf(3, 100, 200, 2),
		"90 connections to 3 masters; each minion follows one master at a time":      followOf(3, 100, 90, 1),
	} {
		var r report
		examineFollow(&r, f)
		if len(r.findings) != 1 || r.findings[0].Severity != OK || !strings.Contains(fmt.Sprint(r.findings), want) {
			t.Errorf("found %+v, want %q", r.findings, want)
		}
	}
}
