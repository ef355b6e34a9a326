package doctor

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"phoenix/bridge/decide"
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

	Reactions []Reaction
	Runners   []Runner

	IDPattern string
	ValidID   func(string) bool
	// Plan is what a bridge with its store would do; nil: there is no store, and
	// so no row for any key.
	Plan *Plan
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
}

// Signing is a file by which Salt accepts or rejects keys itself.
type Signing struct {
	Path     string // empty: not set
	Patterns []string
	Err      error // of a file that is there
}

// Reaction is one file of the master's reactor that reacts to what a bridge
// listens to.
type Reaction struct {
	Tag   string
	File  string
	Calls []string // what it calls, of what matters here
	Ours  bool     // it is one of Phoenix's own
	Err   error
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
}

// ExamineMaster makes findings of facts.
func ExamineMaster(m Master) []Finding {
	var r report
	examineSalt(&r, m)
	examineSigning(&r, m)
	examineReactor(&r, m)
	if m.KeysErr != nil {
		r.add(Error, "key-store", "run phoenix doctor as root; see keys.cache_driver in "+quote(m.Config.Path), "%s", oneLine(m.KeysErr))
	} else {
		examineKeys(&r, m)
		examinePlan(&r, m)
	}
	return r.findings
}

func examineSalt(r *report, m Master) {
	c := m.Config
	what := "Salt " + orUnknown(m.Version) + ", user " + quote(c.User) + ", configuration " + quote(c.Path)
	if m.PID > 0 {
		r.add(OK, "salt-master", "", "%s, runs as process %d", what, m.PID)
	} else {
		r.add(Note, "salt-master", "systemctl status salt-master", "%s: no running master is named by %s", what, quote(c.PIDFile))
	}
	for _, fault := range c.Skipped {
		r.add(Warning, "salt-config", "mend the file, then: systemctl restart salt-master", "Salt leaves a file out: %s", oneLine(fault))
	}
	if err := c.Validate(); err != nil {
		r.add(Error, "salt-config", "see transport and cluster_id in "+quote(c.Path), "%s", oneLine(err))
	}
	for _, s := range []struct {
		check  string
		socket Socket
	}{{"event-bus", m.EventBus}, {"request-port", m.RequestPort}} {
		switch {
		case s.socket.Err != nil:
			r.add(Note, s.check, "run phoenix doctor as root", "not known whether anybody listens on %s: %s", s.socket.Name, oneLine(s.socket.Err))
		case !s.socket.Listening:
			r.add(Warning, s.check, "systemctl restart salt-master", "nobody listens on %s", s.socket.Name)
		default:
			r.add(OK, s.check, "", "the master listens on %s", s.socket.Name)
		}
	}
}

func examineSigning(r *report, m Master) {
	c := m.Config
	off := func(option string) string {
		return "take " + option + " out of the master's configuration (grep -rn " + option + " " + quote(filepath.Dir(c.Path)) + "), then: systemctl restart salt-master"
	}
	if c.AutoAccept {
		r.add(Error, "auto-accept", off("auto_accept"), "auto_accept is on: every key that knocks is accepted")
	} else {
		r.add(OK, "auto-accept", "", "auto_accept is off")
	}
	if c.OpenMode {
		r.add(Error, "open-mode", off("open_mode"), "open_mode is on: any key is taken for any id")
	} else {
		r.add(OK, "open-mode", "", "open_mode is off")
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
		switch path := quote(s.signing.Path); {
		case s.signing.Path == "":
			r.add(OK, s.check, "", "%s is not set", s.option)
		case s.signing.Err != nil:
			r.add(Warning, s.check, off(s.option), "%s %s: %s", s.option, path, oneLine(s.signing.Err))
		case len(s.signing.Patterns) == 0:
			r.add(Note, s.check, off(s.option), "%s %s names nobody yet", s.option, path)
		default:
			r.add(s.severity, s.check, off(s.option), "%s %s %s %s", s.option, path, s.what, some(s.signing.Patterns))
		}
	}
	folder := filepath.Join(c.PKIDir, "minions_autosign")
	if len(m.AutosignFolder) > 0 {
		r.add(Error, "autosign-folder", "rm "+quote(folder)+"/…, of each id that is not to come in", "the next key is accepted of %s", some(m.AutosignFolder))
	} else {
		r.add(OK, "autosign-folder", "", "%s is empty", quote(folder))
	}
	if c.PermissivePKI {
		r.add(Warning, "permissive-pki", off("permissive_pki_access"), "permissive_pki_access is on")
	} else {
		r.add(OK, "permissive-pki", "", "permissive_pki_access is off")
	}
}

// Calls that a reaction may make, as Calls has them.
const (
	callsAccept = "accepts keys"
	callsKeys   = "changes keys"
	callsStates = "runs states"
	callsOld    = "calls the runners of 2015"
)

func examineReactor(r *report, m Master) {
	others, old := 0, []string{}
	for _, runner := range m.Runners {
		if !runner.Ours {
			old = append(old, runner.Path)
		}
	}
	for _, x := range m.Reactions {
		if x.Ours {
			continue
		}
		others++
		severity, does := Note, "does something else"
		switch {
		case x.Err != nil:
			severity, does = Warning, "cannot be looked into: "+oneLine(x.Err)
		case slices.Contains(x.Calls, callsAccept):
			severity, does = Error, strings.Join(x.Calls, ", ")
		case slices.Contains(x.Calls, callsOld) && len(old) == 0:
			does = "calls key_runner or highstate_runner, which tell the bridge"
		case len(x.Calls) > 0:
			severity, does = Warning, strings.Join(x.Calls, ", ")
		}
		mend := "look at it: less " + quote(x.File)
		if severity != Note {
			mend += "; take it out of reactor in " + quote(filepath.Dir(m.Config.Path)) + ", then: systemctl restart salt-master"
		}
		r.add(severity, "reactor", mend, "on %s, %s %s", quote(x.Tag), quote(x.File), does)
	}
	if others == 0 {
		r.add(OK, "reactor", "", "nobody else reacts to knocks, keys and starts")
	}
	if len(old) > 0 {
		r.add(Error, "old-runners", "rm "+quoteAll(old), "other runners under our names: %s", some(old))
	} else {
		r.add(OK, "old-runners", "", "no other runners under our names")
	}
}

func examineKeys(r *report, m Master) {
	byState, byDigest := map[salt.State][]string{}, map[string][]string{}
	states, broken, outside := map[string][]salt.State{}, []string{}, []string{}
	for _, k := range m.Keys {
		if k.State == "" { // an entry that is no key in any state
			if broken = append(broken, k.ID); !m.ValidID(k.ID) {
				outside = append(outside, k.ID)
			}
			continue
		}
		byState[k.State] = append(byState[k.State], k.ID)
		states[k.ID] = append(states[k.ID], k.State)
		if !m.ValidID(k.ID) && !slices.Contains(outside, k.ID) {
			outside = append(outside, k.ID)
		}
		if k.State != salt.Accepted && k.State != salt.Pending {
			continue
		}
		if k.Fault != nil {
			broken = append(broken, k.ID)
		} else if k.Digest != "" && !slices.Contains(byDigest[k.Digest], k.ID) {
			byDigest[k.Digest] = append(byDigest[k.Digest], k.ID)
		}
	}
	r.add(OK, "key-store", "", "%d accepted, %d pending, %d rejected, %d denied, in %s", len(byState[salt.Accepted]), len(byState[salt.Pending]),
		len(byState[salt.Rejected]), len(byState[salt.Denied]), quote(m.Config.PKIDir))
	if m.KeysLeft > 0 {
		r.add(Note, "key-store", "", "%s more were not read", count(m.KeysLeft, "key"))
	}
	shared := 0
	for _, digest := range slices.Sorted(maps.Keys(byDigest)) {
		if ids := byDigest[digest]; len(ids) > 1 {
			shared++
			r.add(Error, "shared-key", "on each: systemctl stop salt-minion; rm /etc/salt/pki/minion/minion.{pem,pub}; then here: salt-key -d ID; and make the image anew without them",
				"%d ids have one key (%.12s…): %s", len(ids), digest, some(ids))
		}
	}
	if shared == 0 {
		r.add(OK, "shared-key", "", "each id has a key of its own")
	}
	tell := func(severity Severity, check, mend string, ids []string, what, none string) {
		if len(ids) == 0 {
			r.add(OK, check, "", "%s", none)
			return
		}
		slices.Sort(ids)
		r.add(severity, check, mend, "%s: %s", strings.Replace(what, "#", count(len(ids), "key"), 1), some(ids))
	}
	tell(Warning, "key-not-rsa", "salt-key -d ID, then: systemctl restart salt-minion on that machine", broken, "# that Phoenix cannot take (no RSA public key, or not to be read)", "all keys are RSA public keys")
	tell(Note, "id-pattern", "see id_pattern in /etc/phoenix/phoenix.yaml, if these are to be of the fleet", outside, "# of ids that do not match "+m.IDPattern, "all ids match "+m.IDPattern)
	tell(Warning, "hidden-key", "as root: rm "+quote(m.Config.PKIDir)+"/minions_pre/ID (or minions_rejected), if the accepted key is the right one", hidden(states),
		"# beside an accepted one of the same id", "no accepted key is hidden by another")
	tell(Note, "rejected-keys", "salt-key -d ID, to let it knock again", byState[salt.Rejected], "# rejected", "no key is rejected")
	tell(Warning, "denied-keys", "phoenix minions explain ID; phoenix keys accept --rebind ID for a machine that was rebuilt; else salt-key -d ID", byState[salt.Denied], "# denied", "no key is denied")
}

// hidden are the ids whose accepted key 3008 does not see.
func hidden(states map[string][]salt.State) (ids []string) {
	for id, held := range states {
		if slices.Contains(held, salt.Accepted) && (slices.Contains(held, salt.Pending) || slices.Contains(held, salt.Rejected)) {
			ids = append(ids, id)
		}
	}
	return ids
}

func examinePlan(r *report, m Master) {
	plan, by := m.Plan, "by what the store knows"
	if plan == nil {
		plan, by = without(m), "without a store, which knows of no minion"
	}
	what := []string{count(plan.Highstates, "highstate"), count(plan.Acts[decide.DeleteKeys], "deletion"),
		count(plan.Foreign, "foreign key") + ", never touched"}
	for _, act := range []struct {
		act  decide.KeyAct
		text string
	}{{decide.AcceptKey, "accepted"}, {decide.AdoptKey, "adopted"}, {decide.UnlinkPending, "unlinked while pending"}, {decide.ReportKey, "reported"}} {
		if n := plan.Acts[act.act]; n > 0 {
			what = append(what, count(n, "key")+" "+act.text)
		}
	}
	severity, mend := OK, ""
	if plan.Foreign > 0 {
		severity, mend = Note, "phoenix adopt --dry-run says which of them would become part of the fleet"
	}
	r.add(severity, "what-phoenix-would-do", mend, "%s (%s)", strings.Join(what, "; "), by)
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

func orUnknown(version string) string {
	if version == "" {
		return "of a version that is not told"
	}
	return version
}

func quoteAll(names []string) string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = quote(name)
	}
	return strings.Join(out, " ")
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
