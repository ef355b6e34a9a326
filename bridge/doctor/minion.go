package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"phoenix/bridge/files"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// The agent's drop-in; see package agent, beside which this one stands.
const (
	dropInName   = "99-phoenix.conf"
	scheduleName = "_schedule.conf"
	alivePrefix  = "__master_alive_"
)

// aliveMost is as long as a dead connection may live, before it is worth a word:
// the agent's settings end it after 60 s.
const aliveMost = 300

// Minion is what there is to know of a minion without asking it.
type Minion struct {
	Config  salt.MinionConfig
	Version string
	PID     int

	DropIn    map[string]any // what the agent's file says; nil: it is not there
	DropInErr error
	Alive     []string // masters that a schedule's job looks for
	AliveErr  error

	MasterKey    string // digest of the key that it trusts; empty: see MasterKeyErr
	MasterKeyErr error
	Key          string // digest of its own key

	AgentRuns, AgentKnown bool // whether the minion's agent runs, and whether that is known
	AgentInstalled        bool // the unit of an agent is there

	Schedule map[string]any   // jobs of _schedule.conf, which Salt writes
	Cron     []CronJob        // what cron runs on this machine
	Unit     Unit             // how systemd ends the service
	Reach    map[string]Reach // what became of each master that was asked for
	// OptionSets are the files besides the main one that set each option.
	OptionSets map[string][]optionSet
}

// ReadMinion reads what there is to know of a minion so configured, but for Reach. It
// changes nothing and connects to nothing.
func ReadMinion(c salt.MinionConfig) Minion {
	h := host{proc: "/proc"}
	m := Minion{Config: c, PID: h.pid(c.PIDFile, "salt-minion")}
	m.Version = h.version(m.PID)
	m.DropIn, m.DropInErr = readYAML(filepath.Join(c.DropIns, dropInName))
	var schedule map[string]any
	schedule, m.AliveErr = readYAML(filepath.Join(c.DropIns, scheduleName))
	m.Schedule, _ = schedule["schedule"].(map[string]any)
	for name := range m.Schedule {
		if address, ok := strings.CutPrefix(name, alivePrefix); ok {
			m.Alive = append(m.Alive, address)
		}
	}
	slices.Sort(m.Alive)
	m.MasterKey, m.MasterKeyErr = digestOf(filepath.Join(c.PKIDir, "minion_master.pub"))
	m.Key, _ = digestOf(filepath.Join(c.PKIDir, "minion.pub"))
	m.Unit = readUnit("salt-minion.service", unitFolders)
	m.OptionSets = readOptionSets(c.Path, c.DropIns)
	m.Cron, _ = cronJobs("/")
	m.AgentRuns, m.AgentKnown = h.agentRuns(c.Path)
	m.AgentInstalled = readUnit("phoenix-agent.service", unitFolders).Path != ""
	return m
}

func digestOf(path string) (string, error) {
	text, err := files.Head(path, maxFile)
	if err != nil {
		return "", err
	}
	return fleet.KeyDigest(text)
}

// readYAML reads a file of the minion's; nil if it is not there.
func readYAML(path string) (map[string]any, error) {
	text, err := files.Head(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	doc := map[string]any{}
	if err == nil {
		err = yaml.Unmarshal(text, &doc)
	}
	return doc, err
}

// ExamineMinion makes findings of facts.
func ExamineMinion(m Minion) []Finding {
	var r report
	c := m.Config
	what := saltOf(m.Version) + ", id " + orNone(c.ID, "made of the host's name") + ", configuration " + quote(c.Path)
	if m.PID > 0 {
		r.ok("salt-minion", "%s, runs as process %d", what, m.PID)
	} else {
		r.add(Warning, "salt-minion", run("systemctl start salt-minion").then("journalctl -u salt-minion says why it ended"), "%s: %s names no running minion", what, quote(c.PIDFile))
	}
	for _, fault := range c.Skipped {
		r.add(Warning, "minion-config", say("correct the file, then: "+restartMinion), "Salt leaves a file out: %s",
			oneLine(fault))
	}
	examineMasters(&r, m)
	examineSettings(&r, m)
	examineDropIn(&r, m)
	examineStates(&r, m)
	examineUnit(&r, m)
	examineReach(&r, m)
	switch {
	case errors.Is(m.MasterKeyErr, fs.ErrNotExist):
		r.add(Note, "master-key", Fix{}, "the minion trusts no master yet: it takes the first that answers")
	case unread(m.MasterKeyErr):
		r.add(Note, "master-key", say("run phoenix doctor as root"), "the key that the minion trusts is not read: %s",
			oneLine(m.MasterKeyErr))
	case m.MasterKeyErr != nil:
		r.add(Warning, "master-key", remove("rm",
			[]string{filepath.Join(c.PKIDir,
				"minion_master.pub")}).and(restartMinion).then("the minion then trusts the first master that answers"),
			"the key that the minion trusts cannot be read: %s", oneLine(m.MasterKeyErr))
	default:
		r.ok("master-key", "the minion trusts the master key %.12s…", m.MasterKey)
	}
	return r.findings
}

func examineMasters(r *report, m Minion) {
	c := m.Config
	switch list := some(c.Masters); {
	case len(c.Masters) == 0:
		r.add(Note, "masters", say("phoenix agent --dry-run"),
			"no master is set: the minion looks for a host named salt")
	case len(c.Masters) == 1 && c.MasterType != "failover":
		r.add(Note, "masters", say("phoenix agent --dry-run"), "one master, %s, and master_type is %s", list,
			quote(c.MasterType))
	case c.MasterType == "str" && m.DropIn != nil && m.DropIn["master_type"] == "str":
		r.ok("masters", "follows %d at once: %s", len(c.Masters), list)
	case c.MasterType == "str":
		r.add(Note, "masters", say("set agent.follow to all (as it is), to a number, or to 1 (one at a time, with failover)"),
			"follows %d at once by its own configuration: %s; an agent leaves it so until agent.follow is set",
			len(c.Masters), list)
	case c.MasterType != "failover":
		r.add(Warning, "masters", m.options().set("master_type", "failover"), "masters %s, and master_type is %s", list,
			quote(c.MasterType))
	default:
		r.ok("masters", "fails over among %s", list)
	}
}

// jidQueue is enough for the jobs of some hours on a busy master. 10,000 ids, which
// the agent sets, take a minion 1 MB, and some 0.1 ms a job to look through.
const jidQueue = 1000

// examineSettings looks at what the agent's drop-in sets.
func examineSettings(r *report, m Minion) {
	o := m.Config.Options
	failover := m.Config.MasterType == "failover"
	if o["cache_jobs"] == true {
		r.ok("cache-jobs", "cache_jobs is on")
	} else {
		r.add(Warning, "cache-jobs", m.setting("cache_jobs", "True"),
			"cache_jobs is off: how a highstate ended is lost with the master that received it")
	}
	if n := whole(o, "minion_jid_queue_hwm", 100); n >= jidQueue {
		r.ok("jid-queue", "the minion remembers %d job ids", n)
	} else {
		r.add(Note, "jid-queue", m.setting("minion_jid_queue_hwm", fmt.Sprint(10*jidQueue)),
			"the minion remembers %d job ids (minion_jid_queue_hwm)", n)
	}
	if n := whole(o, "master_alive_interval", 0); n > 0 {
		r.ok("alive-interval", "master_alive_interval is %d s", n)
	} else if set, ok := m.DropIn["master_alive_interval"]; ok && set == o["master_alive_interval"] {
		// Masters with different publish ports, or several at once: see package agent.
		r.ok("alive-interval", "master_alive_interval is off, as the agent sets it")
	} else {
		r.add(among(failover), "alive-interval", m.setting("master_alive_interval", "15"),
			"master_alive_interval is off")
	}
	idle, cnt, intvl := whole(o, "tcp_keepalive_idle", 300), whole(o, "tcp_keepalive_cnt", -1),
		whole(o, "tcp_keepalive_intvl", -1)
	if cnt < 0 { // the kernel's own (net.ipv4.tcp_keepalive_*)
		cnt = 9
	}
	if intvl < 0 {
		intvl = 75
	}
	if idle < 0 {
		idle = 7200
	}
	switch after := idle + cnt*intvl; {
	case o["tcp_keepalive"] == false:
		r.add(among(failover), "keep-alive", m.setting("tcp_keepalive", "True"), "tcp_keepalive is off")
	case after > aliveMost:
		r.add(among(failover), "keep-alive",
			m.settings("tcp_keepalive_idle: 30", "tcp_keepalive_cnt: 3", "tcp_keepalive_intvl: 10"),
			"a dead connection ends after %d s", after)
	default:
		r.ok("keep-alive", "a dead connection ends after %d s", after)
	}
	if o["rejected_retry"] == true {
		r.ok("rejected-retry", "rejected_retry is on")
	} else {
		r.add(Note, "rejected-retry", m.setting("rejected_retry", "True"), "rejected_retry is off")
	}
	if n := whole(o, "retry_dns", 30); n == 0 || !failover {
		r.ok("retry-dns", "retry_dns is %d", n)
	} else {
		r.add(Warning, "retry-dns", m.setting("retry_dns", "0"), "retry_dns is %d, and master_type is failover", n)
	}
}

// among is how much a setting matters that only a minion which fails over uses.
func among(failover bool) Severity {
	if failover {
		return Warning
	}
	return Note
}

// unread reports whether a file could not be read at all, so that nothing is known of
// what it says, and no advice to remove it may follow.
func unread(err error) bool {
	_, is := errors.AsType[*fs.PathError](err)
	return is && !errors.Is(err, fs.ErrNotExist)
}

func orNone(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return quote(text)
}
