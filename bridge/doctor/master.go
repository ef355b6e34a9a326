package doctor

import (
	"errors"
	"path/filepath"
	"strings"

	"phoenix/bridge/decide"
	"phoenix/bridge/plural"
	"phoenix/bridge/salt"
)

// Master is what there is to know of a master without asking it.
type Master struct {
	Config      salt.Config
	Version     string // empty: not found out
	PID         int    // 0: it does not run
	EventBus    Socket
	RequestPort Socket

	Keys     []Key
	KeysLeft int   // keys that were not read, beyond a limit
	KeysErr  error // why there are none

	AutosignFile   Signing
	AutorejectFile Signing
	AutosignGrains Signing // the values, for each grain
	AutosignFolder []string

	Actors   []Actor
	Runners  []Runner
	Mounts   []Mount
	Shared   []SharedFolder // with other masters of this machine
	Cron     []CronJob
	CronErr  error // of crontabs that were not read
	Returner Returner
	// ForeignJobs are folders of the job cache that the master's user does not own.
	ForeignJobs []string
	Queues      []string // sqs.queues of Phoenix's own configuration
	// OptionSets are the files besides the main one that set each option.
	OptionSets map[string][]optionSet

	IDPattern string
	ValidID   func(string) bool
	// Plan is what a bridge with its store would do; nil: there is no store, and
	// so no row for any key, or it is Unplanned.
	Plan *Plan
	// Unplanned: there is a store, and it cannot be read.
	Unplanned bool
	// Phoenix is the program with the flags that doctor was called with, as commands name
	// it; empty: with the configuration of Salt, if it is not the usual one.
	Phoenix string
}

// Socket is where something should listen.
type Socket struct {
	Name      string
	Listening bool
	Err       error // why it is not known
}

// Key is one key of the key store.
type Key struct {
	ID     string
	State  salt.State
	Digest string // empty: none that Phoenix takes; Fault says why
	Fault  error
	Empty  bool     // a file without a text
	Paths  []string // of an entry that is no key in any state
}

// Signing is a file by which Salt accepts or rejects keys itself.
type Signing struct {
	Path     string // empty: not set
	Patterns []string
	Err      error // of a file that is there
}

// Runner is a file named as one of ours.
type Runner struct {
	Path string
	Ours bool
}

// Plan counts what a bridge would do about the keys that are here.
type Plan struct {
	Foreign    int // accepted, without a row
	Highstates int
	Acts       map[decide.KeyAct]int
	OtherKeys  []string // ids whose accepted key is not the bound one
}

// ExamineMaster makes findings of facts.
func ExamineMaster(m Master) []Finding {
	var r report
	examineSalt(&r, m)
	examineSigning(&r, m)
	examineActors(&r, m)
	examineJobs(&r, m)
	examineMounts(&r, m)
	examineCron(&r, m)
	if m.KeysErr != nil {
		fix := "run phoenix doctor as root or as the master's user"
		if errors.Is(m.KeysErr, salt.ErrKeyStore) {
			fix = "set keys.cache_driver: localfs_key in " + quote(m.Config.Path) + ", and restart salt-master"
		}
		r.add(Error, "key-store", say(fix), "%s", oneLine(m.KeysErr))
	} else {
		examineKeys(&r, m)
		examinePlan(&r, m)
	}
	return r.findings
}

func examineSalt(r *report, m Master) {
	c := m.Config
	what := saltOf(m.Version) + ", user " + quote(c.User) + ", configuration " + quote(c.Path)
	dead := m.PID == 0 && m.RequestPort.Err == nil && !m.RequestPort.Listening
	switch {
	case m.PID > 0:
		r.ok("salt-master", "%s, runs as process %d", what, m.PID)
	case dead:
		r.add(Error, "salt-master", run("systemctl start salt-master").then("journalctl -u salt-master says why it ended"), "%s: it does not run", what)
	default: // in another container, or with another pidfile
		r.add(Note, "salt-master", say("correct pidfile in "+quote(c.Path)+
			"; or, if the master was killed and its processes are left: "+restartMaster),
			"%s: %s names no running master", what, quote(c.PIDFile))
	}
	for _, fault := range c.Skipped {
		r.add(Warning, "salt-config", say("correct the file, then: "+restartMaster), "Salt leaves a file out: %s",
			oneLine(fault))
	}
	if err := c.Validate(); err != nil {
		r.add(Error, "salt-config", say("see transport and cluster_id in "+quote(c.Path)), "%s", oneLine(err))
	}
	for _, s := range []struct {
		check  string
		socket Socket
	}{{"event-bus", m.EventBus}, {"request-port", m.RequestPort}} {
		switch {
		case s.socket.Err != nil:
			r.add(Note, s.check, say("run phoenix doctor as root"), "not known whether anybody listens on %s: %s",
				s.socket.Name, oneLine(s.socket.Err))
		case !s.socket.Listening && !dead: // else one finding says it
			r.add(Warning, s.check, run(restartMaster), "nobody listens on %s", s.socket.Name)
		case s.socket.Listening:
			r.ok(s.check, "the master listens on %s", s.socket.Name)
		}
	}
	if c.Options["auth_events"] == false {
		r.add(Warning, "auth-events", m.options().set("auth_events", "True"), "auth_events is off")
	} else {
		r.ok("auth-events", "auth_events is on")
	}
}

func examineSigning(r *report, m Master) {
	c := m.Config
	for _, o := range []struct {
		check, option, what string
		on                  bool
		severity            Severity
	}{
		{"auto-accept", "auto_accept", ": the master accepts every key that it is sent", c.AutoAccept, Error},
		{"open-mode", "open_mode", ": the master takes any key for any id", c.OpenMode, Error},
		{"permissive-pki", "permissive_pki_access", "", c.PermissivePKI, Warning},
	} {
		if o.on {
			r.add(o.severity, o.check, m.options().set(o.option, "False"), "%s is on%s", o.option, o.what)
		} else {
			r.ok(o.check, "%s is off", o.option)
		}
	}
	for _, s := range []struct {
		check, option, what string
		signing             Signing
		severity            Severity
	}{
		{"autosign-file", "autosign_file", "accepts keys of", m.AutosignFile, Error},
		{"autosign-grains", "autosign_grains_dir", "accepts keys by the grains", m.AutosignGrains, Error},
		{"autoreject-file", "autoreject_file", "rejects keys of", m.AutorejectFile, Warning},
	} {
		out := say("take " + s.option + " out of the configuration in " + quote(filepath.Dir(c.Path)) + ", then: " +
			restartMaster)
		aside := out
		if w, ok := word(s.signing.Path); ok { // Salt reads it at each auth request
			aside = run("mv -n -- " + w + " " + w + ".off").then("the patterns are kept there")
		}
		switch path := quote(s.signing.Path); {
		case s.signing.Path == "":
			r.ok(s.check, "%s is not set", s.option)
		case s.signing.Err != nil:
			r.add(Warning, s.check, out, "%s %s: %s", s.option, path, oneLine(s.signing.Err))
		case len(s.signing.Patterns) == 0:
			r.add(Note, s.check, out, "%s %s names nobody yet", s.option, path)
		default:
			r.add(s.severity, s.check, aside, "%s %s %s %s", s.option, path, s.what, some(s.signing.Patterns))
		}
	}
	folder := filepath.Join(c.PKIDir, "minions_autosign")
	if len(m.AutosignFolder) > 0 {
		paths := make([]string, len(m.AutosignFolder))
		for i, id := range m.AutosignFolder {
			paths[i] = filepath.Join(folder, id)
		}
		r.add(Error, "autosign-folder", remove("rm", paths), "the next key is accepted for %s", some(m.AutosignFolder))
	} else {
		r.ok("autosign-folder", "%s is empty", quote(folder))
	}
}

func examinePlan(r *report, m Master) {
	if m.Unplanned {
		r.add(Note, "what-phoenix-would-do", Fix{}, "not known: the store cannot be read")
		return
	}
	plan, by := m.Plan, "by what the store knows"
	if plan == nil {
		plan, by = without(m), "no store yet: all minions count as unknown"
	}
	what := []string{plural.Of(plan.Highstates, "highstate"), plural.Of(plan.Acts[decide.DeleteKeys], "deletion"),
		plural.Of(plan.Foreign, "foreign key") + ", never touched"}
	for _, act := range []struct {
		act  decide.KeyAct
		text string
	}{{decide.AcceptKey, "accepted"}, {decide.AdoptKey, "adopted"}, {decide.UnlinkPending, "unlinked while pending"},
		{decide.ReplaceKey, "replaced by another"}, {decide.ReportKey, "reported"}} {
		if n := plan.Acts[act.act]; n > 0 {
			what = append(what, plural.Of(n, "key")+" "+act.text)
		}
	}
	severity, fix := OK, Fix{}
	if plan.Foreign > 0 {
		severity, fix = Note, say("phoenix adopt --dry-run says which of them would become part of the fleet; phoenix adopt adds them")
	}
	if ids := plan.OtherKeys; len(ids) > 0 { // as after the restore of an older copy of the store
		r.add(Warning, "what-phoenix-would-do",
			say("for each: phoenix keys accept --rebind ID if the accepted key is the right one, or phoenix keys delete ID --state accepted"),
			"the accepted key is not the one that is bound to the minion: %s", some(ids))
	}
	r.add(severity, "what-phoenix-would-do", fix, "%s (%s)", strings.Join(what, "; "), by)
}

// Foreign is how many accepted keys the store does not know.
func (m Master) Foreign() int {
	if m.Plan == nil {
		return without(m).Foreign
	}
	return m.Plan.Foreign
}

// without is what the rules say where no key has a row.
func without(m Master) *Plan {
	views := map[string]decide.KeyView{}
	for _, k := range m.Keys {
		if k.State == "" {
			continue
		}
		v := views[k.ID]
		v.ID, v.Valid = k.ID, m.ValidID(k.ID)
		key := decide.Key{Present: true, Digest: k.Digest}
		switch k.State {
		case salt.Accepted:
			v.Accepted = key
		case salt.Pending:
			v.Pending = key
		case salt.Rejected:
			v.Rejected = key
		case salt.Denied:
			v.Denied = key
		}
		views[k.ID] = v
	}
	plan := &Plan{Acts: map[decide.KeyAct]int{}}
	for _, v := range views {
		plan.Acts[decide.Keys(decide.Bound, v).Act]++
		if v.Accepted.Present {
			plan.Foreign++
		}
	}
	return plan
}

// saltOf names Salt with its version, where that is known: a master that does not run and
// is installed in no usual place does not tell it.
func saltOf(version string) string { return strings.TrimSpace("Salt " + version) }

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
