package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/admin"
	"phoenix/bridge/audit"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/lab"
)

// asker is a fleet in an SQLite file, and a master that does not run.
type asker struct {
	t     *testing.T
	dir   string
	store *sqlite.Store
	args  []string
}

func newAsker(t *testing.T) asker {
	t.Helper()
	master, _ := stillMaster(t)
	dir := filepath.Dir(master)
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return asker{t, dir, store, []string{"phoenix", "--config", os.DevNull, "--store",
		"sqlite:" + filepath.Join(dir, "fleet.db"), "--instance-id", "salt-1",
		"--socket", filepath.Join(dir, "s"), "--salt-config", master, "--audit-file", filepath.Join(dir, "audit.log")}}
}

func (a asker) apply(changes ...fleet.Change) {
	a.t.Helper()
	for _, c := range changes {
		if _, err := fleet.ApplyOne(a.t.Context(), a.store, c); err != nil {
			a.t.Fatal(err)
		}
	}
}

func (a asker) beat(id string, ready bool, connected int) {
	a.t.Helper()
	if _, err := a.store.Beat(a.t.Context(),
		fleet.Beat{InstanceID: id, IPAddr: "10.0.0.1", Incarnation: "1", Ready: ready,
			Connected: connected}); err != nil {
		a.t.Fatal(err)
	}
}

// says runs a command, and expects an exit code and what it prints.
func (a asker) says(code int, args string, want ...string) string {
	a.t.Helper()
	var out bytes.Buffer
	got := run(a.t.Context(), append(append([]string{}, a.args...), strings.Fields(args)...), &out, &out)
	if got != code {
		a.t.Errorf("phoenix %s: exit %d, not %d: %s", args, got, code, out.String())
	}
	for _, text := range want {
		if !strings.Contains(out.String(), text) {
			a.t.Errorf("phoenix %s: no %q: %s", args, text, out.String())
		}
	}
	return out.String()
}

// Is it safe to restart this master?
func TestMastersCheck(t *testing.T) {
	a := newAsker(t)
	a.says(exitNotFound, "masters check salt-9", "phoenix masters list")
	a.beat("salt-1", true, 7)
	a.says(exitFailed, "masters check salt-1", "minions connected to it", "7", "no other master serves")
	a.beat("salt-2", true, 0)
	a.says(exitFailed, "masters check --self", "others that serve", "salt-2",
		"safe only for minions that have an agent or several masters")
	a.beat("salt-1", true, 0)
	a.says(exitOK, "masters check --self", "others that serve", "salt-2")
	a.apply(fleet.Add{InstanceID: "web-1"}, fleet.Bind{InstanceID: "web-1", KeySHA256: strings.Repeat("a", 64)},
		fleet.Add{InstanceID: "web-2"},
		fleet.Claim{InstanceID: "web-1", Owner: "salt-1", Incarnation: "1", JID: "20261126020000000000", Attempt: 1})
	a.says(exitFailed, "masters check salt-1", "web-1", "it runs 1 first highstate")
	var c admin.MasterCheck
	if err := json.Unmarshal([]byte(a.jsonOf("masters check salt-2 --json")), &c); err != nil || !c.Safe ||
		c.Waiting != 1 || len(c.Ready) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := a.store.DrainMaster(t.Context(), "salt-2", true); err != nil {
		t.Fatal(err)
	}
	a.says(exitFailed, "masters check salt-1", "the other masters that serve are draining")
}

func (a asker) jsonOf(args string) string {
	var out, errs bytes.Buffer
	run(a.t.Context(), append(append([]string{}, a.args...), strings.Fields(args)...), &out, &errs)
	return out.String()
}

// What happened between two and three?
func TestHistory(t *testing.T) {
	a := newAsker(t)
	var lines bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&lines, nil))
	log.Info("key accepted", "minion", "web-1", "rule", "listed")
	log.Info("key refused", "minion", "web-2", "rule", "bound")
	if err := audit.Append(filepath.Join(a.dir, "audit.log"), lines.Bytes(), audit.MaxFile); err != nil {
		t.Fatal(err)
	}
	a.apply(fleet.Add{InstanceID: "web-1", Group: "web"}, fleet.Add{InstanceID: "web-3", Group: "web"},
		fleet.Add{InstanceID: "db-1"}, fleet.Retire{InstanceID: "db-1"})
	a.beat("salt-1", true, 0)
	a.beat("salt-2", true, 0)
	all := a.says(exitOK, "history", "key accepted  rule=listed", "key refused", "last change: listed  group=web",
		"last change: terminated", "run phoenix history on them (salt-2)", "the audit trail of salt-1 begins at ")
	if strings.Index(all, "key accepted") > strings.Index(all, "last change: terminated") {
		t.Errorf("not in order: %s", all)
	}
	if strings.Count(all, " web-1 ") != 1 { // the decision has changed the row
		t.Errorf("one thing twice: %s", all)
	}
	if one := a.says(exitOK, "history web-1", "key accepted"); strings.Contains(one, "web-2") ||
		strings.Contains(one, "db-1") {
		t.Errorf("of others, too: %s", one)
	}
	if none := a.says(exitOK, "history --since 3h --until 2h",
		"nothing happened from "); strings.Contains(none, "web-1") {
		t.Errorf("of another time: %s", none)
	}
	a.says(exitNotFound, "history web-1 web-9", "key accepted", "read history web-9: not in the fleet")
	a.says(exitUsage, "history --since soon", `"soon" is no time`)
	a.says(exitUsage, "history --since 1h --until 2h", "is not before")
	// Without a bridge and a configured id, a source is called as its bridge would call it.
	for i, arg := range a.args {
		if arg == "--instance-id" {
			nameless := a
			nameless.args = append(slices.Clone(a.args[:i]), a.args[i+2:]...)
			host, err := os.Hostname()
			if text := nameless.says(exitOK, "history web-1", " "+host+" "); err != nil ||
				strings.Contains(text, "this machine") {
				t.Errorf("%v: %s", err, text)
			}
		}
	}
	var h admin.History
	if err := json.Unmarshal([]byte(a.jsonOf("history --json --since 1h")), &h); err != nil || len(h.Events) != 5 ||
		len(h.Notes) != 2 || len(h.Others) != 1 || h.Oldest == nil {
		t.Errorf("%+v, %v", h, err)
	}
	// The decisions of another master, between those of this one.
	h.Master, h.Others = "salt-2", []string{"salt-1"}
	h.Events = append(h.Events, admin.Event{Time: h.Events[0].Time.Add(time.Nanosecond), Source: "salt-2",
		What: "highstate claimed", Minion: "web-1"},
		admin.Event{Time: time.Now().Add(-10 * time.Hour), Source: "salt-2", What: "long before", Minion: "web-1"})
	other, err := json.Marshal(h)
	if err == nil {
		err = os.WriteFile(filepath.Join(a.dir, "other.json"), other, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	var merged admin.History
	if err := json.Unmarshal([]byte(a.jsonOf("history --json --since 1h --merge "+filepath.Join(a.dir, "other.json"))),
		&merged); err != nil {
		t.Fatal(err)
	}
	var events []string
	for _, e := range merged.Events {
		events = append(events, e.Source+" "+e.What)
	}
	if claimed := slices.Index(events, "salt-2 highstate claimed"); claimed < 1 ||
		slices.Index(events, "salt-1 key refused") < claimed ||
		slices.Contains(events, "salt-2 long before") || len(events) != 6 {
		t.Errorf("merged: %v", events)
	}
	if len(merged.Others) != 0 || strings.Contains(strings.Join(merged.Notes, " "), "run phoenix history") {
		t.Errorf("both are read: %v, %v", merged.Others, merged.Notes)
	}
	a.says(exitFailed, "history --merge "+filepath.Join(a.dir, "none.json"), "merge history ")
	now := time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{"02:00": "2026-11-26T02:00:00Z", "04:30": "2026-11-25T04:30:00Z",
		"90m":        "2026-11-26T01:30:00Z",
		"2026-11-20": "2026-11-20T00:00:00Z", "2026-11-20 02:03": "2026-11-20T02:03:00Z",
		"2026-11-20T02:03:04+01:00": "2026-11-20T02:03:04+01:00"} {
		if at, err := pointInTime(text, now); err != nil || at.Format(time.RFC3339) != want {
			t.Errorf("%s is %s, %v", text, at, err)
		}
	}
	now = time.Date(2026, 11, 26, 3, 49, 44, 0, time.UTC)
	for _, p := range []struct{ since, until, want string }{
		{"03:48", "03:50", "26 03:48:00 to 26 03:49:44"}, // just ahead is today, and no end is in the future
		{"23:00", "06:00", "25 23:00:00 to 26 03:49:44"}, // the first six o'clock after eleven at night
		{"23:00", "02:00", "25 23:00:00 to 26 02:00:00"},
		{"", "03:55", "26 02:49:44 to 26 03:49:44"},
		{"04:30", "", "25 04:30:00 to 26 03:49:44"},
		{"2026-11-25 01:00", "2026-11-27 01:00", "25 01:00:00 to 26 03:49:44"},
		{"1h", "2h", "26 02:49:44 to 26 01:49:44"},       // an error of History
		{"03:00", "02:00", "26 03:00:00 to 26 02:00:00"}, // and so is this: until tomorrow is not meant
	} {
		since, until, err := period(p.since, p.until, now)
		if got := since.Format("02 15:04:05") + " to " + until.Format("02 15:04:05"); err != nil || got != p.want {
			t.Errorf("since %q until %q: %s, %v", p.since, p.until, got, err)
		}
	}
}

// What did the last highstate of a minion do?
func TestHighstateShow(t *testing.T) {
	a := newAsker(t)
	const jid = "20261126020000000000"
	a.says(exitNotFound, "highstate show web-1", "not in the fleet")
	a.apply(fleet.Add{InstanceID: "web-1"}, fleet.Bind{InstanceID: "web-1", KeySHA256: strings.Repeat("a", 64)})
	a.says(exitNotFound, "highstate show web-1",
		"no state run of it is known on this master (phoenix minions explain web-1)")
	a.apply(fleet.Claim{InstanceID: "web-1", Owner: "salt-2", Incarnation: "1", JID: jid, Attempt: 1})
	a.says(exitNotFound, "highstate show web-1", "no return of it in its job cache", "run this on salt-2, which ran it")
	load, err := msgpack.Marshal(map[string]any{"id": "web-1", "jid": jid, "retcode": 2, "return": map[string]any{
		"pkg_|-web server_|-nginx_|-installed": map[string]any{"result": false, "comment": "no such\npackage",
			"__id__": "web server", "__sls__": "web", "changes": map[string]any{}},
		"file_|-motd_|-/etc/motd_|-managed": map[string]any{"result": true, "comment": "ok", "__id__": "motd",
			"__sls__": "base", "changes": map[string]any{"diff": "x"}}}})
	if err != nil {
		t.Fatal(err)
	}
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(jid)))
	path := filepath.Join(a.dir, "var/cache/salt/master/jobs", hash[:2], hash[2:], "web-1", "return.p")
	put := func(load []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, load, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(load)
	a.says(exitFailed, "highstate show web-1", "2 states, 1 changed, 1 failed", "changed: motd\n",
		"salt-run jobs.lookup_jid "+jid, "web server", "pkg.installed", "no such package", "states failed (1)")
	if load, err = msgpack.Marshal(map[string]any{"return": []string{"Rendering SLS 'base:web' failed"}}); err != nil {
		t.Fatal(err)
	}
	put(load)
	a.says(exitFailed, "highstate show web-1", "Rendering SLS")
	if strings.Contains(a.says(exitFailed, "highstate show web-1"), "note: ") {
		t.Error("of a first highstate it says that it is none")
	}
	put([]byte{0xc1})
	a.says(exitFailed, "highstate show web-1", "read return of web-1")

	// While another one is requested, what is known of the last run is shown; and so it is
	// of one that ran by hand.
	a.apply(fleet.Finish{InstanceID: "web-1", JID: jid, Outcome: fleet.Erred, Retcode: 2},
		fleet.Rerun{InstanceID: "web-1"})
	if load, err = msgpack.Marshal(map[string]any{"id": "web-1", "jid": jid, "retcode": 2, "fun": "state.highstate",
		"return": map[string]any{
			"cmd_|-reload_|-false_|-run": map[string]any{"result": false, "comment": "Command \"false\" run",
				"__id__": "reload", "__sls__": "web",
				"changes": map[string]any{"retcode": 1, "stderr": "no such\nunit"}}}}); err != nil {
		t.Fatal(err)
	}
	put(load)
	if load, err = msgpack.Marshal(map[string]any{"jid": jid, "fun": "state.highstate", "arg": []any{},
		"tgt": "web-1"}); err == nil {
		err = os.WriteFile(filepath.Join(filepath.Dir(filepath.Dir(path)), ".load.p"), load, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.says(exitFailed, "highstate show web-1", "job "+jid+", state.highstate: 1 state,",
		`Command "false" run: no such unit`,
		"note: the highstate that was requested has not begun (phoenix minions explain web-1); this is its last state run that is known on this master, state.highstate")

	// A minion that was busy with another state run has run nothing of its highstate.
	row, err := a.store.Minion(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	const refused = "20261126030000000000"
	a.apply(fleet.Claim{InstanceID: "web-1", From: row.ClaimVersion, Owner: "salt-1", Incarnation: "1",
		JID: refused, Attempt: 1},
		fleet.Finish{InstanceID: "web-1", JID: refused, Outcome: fleet.Busy})
	a.says(exitFailed, "highstate show web-1", "job "+jid+", state.highstate: 1 state,",
		"note: its highstate waits for the end of another state run (phoenix minions explain web-1); ")
}

// More than ten are not retired without a word, and a dry run retires none.
func TestRetireAsks(t *testing.T) {
	a := newAsker(t)
	var ids []string
	for i := range 11 {
		ids = append(ids, fmt.Sprint("web-", i))
	}
	all := strings.Join(ids, " ")
	a.says(exitOK, "minions add "+all)
	a.says(exitOK, "minions retire --dry-run "+all, "web-10  would be retired: listed, key none")
	a.says(exitUsage, "minions retire "+all, "Retire 11 minions", "--yes is needed")
	if left := a.says(exitOK, "minions list --status TERMINATE"); strings.Contains(left, "web-") {
		t.Errorf("retired: %s", left)
	}
	a.says(exitOK, "minions retire web-0", "retired")
	a.says(exitOK, "minions retire --yes "+all, "web-10  retired")
}

// A minion that answers is not retired without a question, however few there are.
func TestRetireQuestion(t *testing.T) {
	eleven := strings.Fields(strings.Repeat("web-0 ", 11))
	for _, test := range []struct {
		ids    []string
		living map[string]string
		want   string
	}{
		{[]string{"web-1"}, nil, ""},
		{[]string{"web-1", "web-2"}, map[string]string{}, ""},
		{[]string{"web-1"}, map[string]string{"web-1": "salt-1"},
			"web-1 is connected: its minion answers through salt-1. Retire web-1 for good, "},
		{[]string{"web-1", "web-2"}, map[string]string{"web-2": "salt-1", "web-1": "salt-2"},
			"2 of them are connected: web-1, web-2. Retire 2 minions (web-1, …) for good, "},
		{eleven, nil, "Retire 11 minions (web-0, …) for good, "},
	} {
		got := retireQuestion(test.ids, test.living)
		if !strings.HasPrefix(got, test.want) || (got == "") != (test.want == "") ||
			got != "" && !strings.Contains(got, "phoenix minions add --again") {
			t.Errorf("%v, %v: %s", test.ids, test.living, got)
		}
	}
	if connectedTo("") != "" || connectedTo("salt-1") != "; it is CONNECTED: its minion answers through salt-1" {
		t.Error(connectedTo("salt-1"))
	}
}

// Lists take ids, globs and phases; an id that is not there ends with 7.
func TestMinionsListFilters(t *testing.T) {
	a := newAsker(t)
	a.apply(fleet.Add{InstanceID: "web-1"}, fleet.Add{InstanceID: "web-2"}, fleet.Add{InstanceID: "db-1"},
		fleet.Retire{InstanceID: "web-2"})
	for args, want := range map[string]string{"": "web-1 web-2 db-1", "web-*": "web-1 web-2", "db-1": "db-1",
		"--phase terminated":   "web-2",
		"--phase listed web-*": "web-1", "--phase running": "", "nothing-*": ""} {
		out := a.says(exitOK, "minions list "+args)
		for _, id := range []string{"web-1", "web-2", "db-1"} {
			if strings.Contains(out, id) != strings.Contains(want, id) {
				t.Errorf("minions list %s: not %q: %s", args, want, out)
			}
		}
		for line := range strings.Lines(out) {
			if len([]rune(strings.TrimRight(line, "\n"))) > 80 {
				t.Errorf("wider than 80: %s", line)
			}
		}
	}
	a.says(exitNotFound, "minions list web-9", "not in the fleet")
	a.says(exitNotFound, "minions list WEB-1", "web-1 is")
	a.says(exitUsage, "minions list --phase asleep", "is no phase")
	a.says(exitOK, "minions list --wide", "HIGHSTATE BY")
	a.says(exitOK, "minions explain --help", "in the fleet, has not sent an auth request yet")
}

// Another key for a known id is shown everywhere, with both digests and since when.
func TestAnotherKeyIsShown(t *testing.T) {
	a := newAsker(t)
	known, other := lab.UnknownKey(), lab.UnknownKey()
	digest := func(key string) string {
		d, err := fleet.KeyDigest([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	pki := filepath.Join(a.dir, "pki")
	putKey(t, pki, "minions", "web-1", known)
	putKey(t, pki, "minions_denied", "web-1", other)
	putKey(t, pki, "minions_denied", "web-2", other) // of nobody whose key is known
	a.apply(fleet.Add{InstanceID: "web-1"}, fleet.Bind{InstanceID: "web-1", KeySHA256: digest(known), PublicKey: known})
	since := time.Now().UTC().Format("2006-01-02")
	for _, command := range []string{"status", "minions explain web-1"} {
		a.says(exitOK, command, "another key is denied since "+since, digest(other)[:12], digest(known)[:12],
			"phoenix keys accept --rebind web-1")
	}
	a.says(exitFailed, "status --check", "no bridge answers on this machine", "1 id with another key")
	found := examined(t, "--salt-only", "--salt-config", a.args[len(a.args)-3])
	told(t, found, "denied-keys", "warning", "web-1 (denied "+digest(other)[:12]+"…, accepted "+digest(known)[:12]+"…)")
	a.says(exitOK, "keys delete web-2 --state denied", "denied key deleted")
	a.says(exitNotFound, "keys delete web-2 --state denied", "no such key")
	a.says(exitUsage, "keys delete web-1", "--state")
	if _, err := os.Stat(filepath.Join(pki, "minions_denied", "web-1")); err != nil {
		t.Error(err)
	}
}
