package doctor_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/doctor"
	"phoenix/lab"
	"phoenix/lab/needs"
)

// fault is one that is planted beside a real master or minion, and taken away again by
// the fix that doctor prints.
type fault struct {
	check    string
	severity doctor.Severity
	files    map[string]string // what is planted: a text by its path below the root; "->X" is a link
	// byHand does what the fix says in words; nil: its commands are run.
	byHand func(t *testing.T, root string)
	// left is what the fix leaves behind, of what was planted: a file under another name.
	left []string
}

func without(name string) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
}

const minute = time.Minute

const (
	pki   = "etc/salt/pki/master/"
	conf  = "etc/salt/master.d/planted.conf"
	mconf = "etc/salt/minion.d/10-planted.conf"
	late  = "etc/salt/minion.d/planted.conf" // read after the agent's file
)

func masterFaults() []fault {
	one, two, word := lab.UnknownKey(), lab.UnknownKey(), without(conf)
	let := "x:\n  wheel.key.accept:\n    - match: x\n"
	return []fault{
		{"auto-accept", doctor.Error, map[string]string{conf: "auto_accept: yes\n"}, nil, []string{conf}},
		{"open-mode", doctor.Error, map[string]string{conf: "open_mode: True\n"}, nil, []string{conf}},
		{"permissive-pki", doctor.Warning, map[string]string{conf: "permissive_pki_access: True\n"}, nil,
			[]string{conf}},
		{"auth-events", doctor.Warning, map[string]string{conf: "auth_events: False\n"}, nil, []string{conf}},
		{"job-cache", doctor.Error, map[string]string{conf: "master_job_cache: ours\n",
			"var/cache/salt/master/extmods/returners/ours.py": "def prep_jid(nocache=False, passed_jid=None):\n    return 'x'\n"},
			nil, []string{conf, "var/cache/salt/master/extmods/returners/ours.py"}},
		{"key-store", doctor.Error, map[string]string{conf: "keys.cache_driver: redis\n"}, word, nil},
		{"autosign-file", doctor.Error,
			map[string]string{conf: "autosign_file: ROOT/etc/salt/autosign\n", "etc/salt/autosign": "web-*\n"}, nil,
			[]string{conf, "etc/salt/autosign.off"}},
		{"autoreject-file", doctor.Warning,
			map[string]string{conf: "autoreject_file: ROOT/etc/salt/reject\n", "etc/salt/reject": "db-*\n"}, nil,
			[]string{conf, "etc/salt/reject.off"}},
		{"autosign-grains", doctor.Error, map[string]string{conf: "autosign_grains_dir: ROOT/etc/salt/grains\n",
			"etc/salt/grains/role": "web\n"}, nil, []string{conf, "etc/salt/grains.off/role"}},
		{"autosign-folder", doctor.Error, map[string]string{pki + "minions_autosign/web-7": ""}, nil, nil},
		{"salt-config", doctor.Warning, map[string]string{conf: "a: b: c\n"}, word, nil},
		{"salt-config", doctor.Error, map[string]string{conf: "transport: ws\n"}, word, nil},
		{"salt-config", doctor.Error, map[string]string{conf: "cluster_id: one\n"}, word, nil},
		{"reactor", doctor.Error, map[string]string{conf: "reactor:\n  - 'salt/engine/sqs/*': [ROOT/srv/let.sls]\n",
			"srv/let.sls": let}, word, []string{"srv/let.sls"}},
		{"reactor", doctor.Error, map[string]string{conf: "reactor:\n  - 'my/tag': [ROOT/srv/py.sls]\n",
			"srv/py.sls": "#!py\ndef run():\n  return {'x': {'wheel.key.accept_dict': []}}\n"}, word,
			[]string{"srv/py.sls"}},
		{"engines", doctor.Warning, map[string]string{conf: "engines:\n  - sqs_events: {queue: fleet}\n"}, word, nil},
		{"engines", doctor.Warning, map[string]string{conf: "engines: [stalekey]\n"}, word, nil},
		{"master-schedule", doctor.Warning,
			map[string]string{conf: "schedule: {x: {function: state.orchestrate, args: [orch.x], hours: 1}}\n"}, word,
			nil},
		{"orchestration", doctor.Warning,
			map[string]string{"states/orch/let.sls": "x:\n  salt.wheel:\n    - name: key.accept\n"},
			without("states/orch/let.sls"), nil},
		{"publisher-blacklist", doctor.Error,
			map[string]string{conf: "publisher_acl_blacklist: {modules: ['state.*']}\n"}, word, nil},
		{"old-runners", doctor.Error, map[string]string{"var/cache/salt/master/extmods/runners/key_runner.py": "def main(x):\n    pass\n"}, nil, nil},
		{"shared-key", doctor.Error, map[string]string{pki + "minions/twin-1": one, pki + "minions/twin-2": one,
			pki + "minions_pre/twin-3": one}, nil, nil},
		{"key-not-rsa", doctor.Warning, map[string]string{pki + "minions_pre/no-key": "no key\n"}, nil, nil},
		{"odd-keys", doctor.Warning, map[string]string{pki + "minions/a-link": "->twin",
			pki + "minions_pre/it's": "->x y", pki + "minions_pre/empty": ""}, nil, nil},
		{"id-pattern", doctor.Note, map[string]string{pki + "minions_pre/web+1": two},
			without(pki + "minions_pre/web+1"), nil},
		{"id-case", doctor.Warning, map[string]string{pki + "minions/case-1": one, pki + "minions_pre/CASE-1": two},
			without(pki + "minions_pre/CASE-1"), []string{pki + "minions/case-1"}},
		{"hidden-key", doctor.Warning, map[string]string{pki + "minions/hid-1": one, pki + "minions_pre/hid-1": two,
			pki + "minions_rejected/hid-1": two}, nil, []string{pki + "minions/hid-1"}},
		{"rejected-keys", doctor.Note, map[string]string{pki + "minions_rejected/web-9": two}, nil, nil},
		{"denied-keys", doctor.Warning,
			map[string]string{pki + "minions_denied/web-8": two, pki + "minions/web-8": one},
			without(pki + "minions_denied/web-8"), []string{pki + "minions/web-8"}},
	}
}

func minionFaults() []fault {
	option := func(check string, severity doctor.Severity, text string) fault {
		return fault{check, severity, map[string]string{mconf: text}, nil, []string{mconf}}
	}
	return []fault{
		option("cache-jobs", doctor.Warning, "cache_jobs: False\n"),
		{"cache-jobs", doctor.Warning, map[string]string{late: "cache_jobs: False\n"}, without(late), nil},
		{"test-mode", doctor.Warning, map[string]string{late: "test: True\n"}, nil, []string{late}},
		option("file-client", doctor.Error, "file_client: local\n"),
		{"modules", doctor.Error, map[string]string{mconf: "disable_modules: [state]\n"}, without(mconf), nil},
		option("masters", doctor.Warning, "master: [127.0.0.1, localhost]\nmaster_type: distributed\n"),
		option("startup-states", doctor.Warning, "startup_states: highstate\n"),
		option("master-order", doctor.Warning, "random_master: True\n"),
		option("master-order", doctor.Warning, "master_failback: True\n"),
		option("jid-queue", doctor.Note, "minion_jid_queue_hwm: 50\n"),
		option("alive-interval", doctor.Warning, "master_alive_interval: 0\n"),
		option("keep-alive", doctor.Warning, "tcp_keepalive_idle: 300\ntcp_keepalive_intvl: -1\n"),
		option("retry-dns", doctor.Warning, "retry_dns: 30\n"),
		option("rejected-retry", doctor.Note, "rejected_retry: False\n"),
		{"schedule", doctor.Warning, map[string]string{mconf: "schedule: {x: {function: state.highstate, hours: 1, run_on_start: True}}\n"}, without(mconf), nil},
		{"minion-config", doctor.Warning, map[string]string{mconf: "a: b: c\n"}, without(mconf), nil},
		{"master-names", doctor.Warning, map[string]string{mconf: "master: [nowhere.invalid]\n"}, without(mconf), nil},
		{"master-ports", doctor.Warning, map[string]string{mconf: "publish_port: 1\n"}, without(mconf), nil},
		{"drop-in", doctor.Error, map[string]string{"etc/salt/minion.d/99-phoenix.conf": "a: b: c\n"}, nil, nil},
	}
}

// patient is a real master or minion that doctor examines.
type patient struct {
	root, config, path string // path: PATH for commands
	service            string
}

// newPatient makes the programs that fixes name: phoenix, and a systemctl that writes
// down what it is asked for, in the place of systemd, which does not run here.
func newPatient(t *testing.T, root, config, service string) patient {
	t.Helper()
	binary, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	err = errors.Join(os.Symlink(binary, filepath.Join(bin, "phoenix")),
		os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\necho \"$@\" >>"+bin+"/asked\n"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	return patient{root, config, bin + ":" + os.Getenv("PATH"), service}
}

func (p patient) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+p.path)
	return cmd
}

// examine returns the worst finding of each check, and all findings as text.
func (p patient) examine(t *testing.T) (worst map[string]doctor.Finding, all string) {
	t.Helper()
	bin, _, _ := strings.Cut(p.path, ":")
	// 1: it found something
	out, _ := p.command(filepath.Join(bin, "phoenix"), "doctor", "--json", "--salt-only", "--salt-config",
		p.config).Output()
	var list []doctor.Finding
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("read findings: %v\n%s", err, out)
	}
	worst = map[string]doctor.Finding{}
	for _, f := range list { // the worst come first
		if _, known := worst[f.Check]; !known {
			worst[f.Check] = f
		}
	}
	return worst, string(out)
}

// tree is all files that are Salt's configuration, keys and extensions, with their
// texts.
func (p patient) tree(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range []string{"etc", "srv", "states", "var/cache/salt/master/extmods"} {
		err := filepath.WalkDir(filepath.Join(p.root, dir), func(path string, e fs.DirEntry, err error) error {
			name, _ := filepath.Rel(p.root, path)
			switch {
			case errors.Is(err, fs.ErrNotExist) || strings.Contains(name, "__pycache__") ||
				strings.HasPrefix(filepath.Base(name), "."):
				return nil
			case err != nil:
				return err
			case e.Type()&fs.ModeSymlink != 0:
				out[name], err = os.Readlink(path)
			case e.Type().IsRegular():
				var text []byte
				text, err = os.ReadFile(path)
				out[name] = fmt.Sprintf("%x", sha256.Sum256(text))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func (p patient) plant(t *testing.T, f fault) {
	t.Helper()
	for name, text := range f.files {
		path := filepath.Join(p.root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if target, link := strings.CutPrefix(text, "->"); link {
			err = errors.Join(err, os.Symlink(target, path))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(strings.ReplaceAll(text, "ROOT", p.root)), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// heal plants a fault, expects doctor to find it, does what its fix says, and expects
// the finding to be gone, all other checks to find what they found before, and no file
// to be changed but those that the fix is about.
func (p patient) heal(t *testing.T, f fault) {
	t.Helper()
	sound, _ := p.examine(t)
	before := p.tree(t)
	p.plant(t, f)
	worst, all := p.examine(t)
	found := worst[f.check]
	if found.Severity != f.severity {
		t.Fatalf("%s is %q, not %s: %s", f.check, found.Severity, f.severity, all)
	}
	if f.byHand != nil {
		if found.Mend == "" || len(found.Commands) > 0 {
			t.Errorf("%s: it is not for a person: %+v", f.check, found)
		}
		f.byHand(t, p.root)
	} else {
		if len(found.Commands) == 0 {
			t.Fatalf("%s: no command mends %q: %s", f.check, found.What, found.Mend)
		}
		for _, command := range found.Commands {
			if out, err := p.command("sh", "-c", command).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", command, err, out)
			}
		}
	}
	worst, all = p.examine(t)
	if now := worst[f.check]; now.Severity == doctor.Error || now.Severity == doctor.Warning ||
		f.severity == doctor.Note && now.Severity != doctor.OK {
		t.Fatalf("%s is still there after %q: %s", f.check, found.Mend, all)
	}
	after := p.tree(t)
	for name := range after {
		if before[name] != after[name] && !slices.Contains(f.left, name) && !ofAFix(filepath.Base(name)) {
			t.Errorf("%s: %q has changed %s", f.check, found.Mend, name)
		}
	}
	for name := range before {
		if _, there := after[name]; !there {
			t.Errorf("%s: %q has removed %s", f.check, found.Mend, name)
		}
	}
	for _, name := range f.left { // the fault itself goes, and with it what the fix set against it
		if err := os.RemoveAll(filepath.Join(p.root, name)); err != nil {
			t.Fatal(err)
		}
	}
	worst, _ = p.examine(t)
	for check := range maps.Keys(sound) {
		if worst[check].Severity != sound[check].Severity {
			t.Errorf("%s: after %q the check %s finds %+v, and found %+v", f.check, found.Mend, check,
				worst[check], sound[check])
		}
	}
}

// ofAFix reports whether a file is one by which fixes set options.
func ofAFix(name string) bool {
	return strings.HasPrefix(name, "zz-") || strings.HasPrefix(name, "99-doctor-")
}

// notPlanted are the checks on a master or a minion of which TestFixes plants no fault, and
// why, or the test that does.
var notPlanted = map[string]string{
	"salt-master":           "the master is ended at the end; TestPrintedFixes (lab/e2e) starts it as printed",
	"salt-minion":           "the minion is ended at the end; TestPrintedFixes (lab/e2e) starts it as printed",
	"event-bus":             "TestPrintedFixes (lab/e2e)",
	"request-port":          "TestPrintedFixes (lab/e2e)",
	"shared-folders":        "no network file system is mounted here: TestFindings, TestSharedWithAnotherMaster",
	"cron":                  "crontabs are the machine's own: TestCron",
	"what-phoenix-would-do": "it is no fault",
	"unit":                  "systemd's folders are the machine's own: TestUnitFix",
	"agent":                 "TestPrintedFixes (lab/e2e)",
	"alive-schedule":        "the agent removes them: TestForgetsTheStaleOnly in package agent",
	"master-key":            "TestPrintedFixes (lab/e2e)",
}

// Each check on a master or a minion has a fault that is planted, or a reason why not.
// Where no person is needed, what doctor prints is run.
func TestEachCheckHasAFault(t *testing.T) {
	planted, run := map[string]bool{}, map[string]bool{}
	for _, f := range append(masterFaults(), minionFaults()...) {
		planted[f.check] = true
		run[f.check] = run[f.check] || f.byHand == nil
	}
	for _, c := range doctor.Checks() {
		if why := notPlanted[c.Name]; c.Where != doctor.WithConfig && planted[c.Name] == (why != "") {
			t.Errorf("%s: planted %v, and %q", c.Name, planted[c.Name], why)
		}
		if here := strings.HasSuffix(doctor.RunAsPrinted[c.Name], " TestFixes"); run[c.Name] != here {
			t.Errorf("%s: TestFixes runs what is printed: %v, and is said to: %v", c.Name, run[c.Name], here)
		}
	}
}

// allVersions: "make versions" runs on all versions of Salt what "make test" runs on one.
var allVersions = flag.Bool("versions.all", false, "run TestFixes on all versions of Salt")

// Each fault that can be planted is found on a real master and a real minion, and gone
// after what doctor prints, which changes nothing else. Both work at the end.
func TestFixes(t *testing.T) {
	needs.More(t, "real Salt masters and minions")
	versions := []string{lab.Salt3007}
	if *allVersions {
		versions = lab.Versions()
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			l := lab.New(t)
			master := l.StartMaster(lab.MasterOptions{Version: version})
			master.Ready()
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}, Failover: true,
				Extra: map[string]any{"tcp_keepalive_idle": 30, "tcp_keepalive_cnt": 3, "tcp_keepalive_intvl": 10,
					"rejected_retry": true, "minion_jid_queue_hwm": 10000}})
			minion.PublicKey()
			l.Eventually(minute, "a pending key",
				func() (bool, string) { return len(master.Pending()) == 1, master.Tail() })
			master.Accept("web-1")
			minion.Answers(master)

			m := newPatient(t, master.Dir, master.ConfigPath(), "salt-master")
			if worst, all := m.examine(t); worst["salt-master"].Severity != doctor.OK {
				t.Fatalf("a master that runs: %s", all)
			}
			for _, f := range masterFaults() {
				t.Run(f.check, func(t *testing.T) { m.heal(t, f) })
			}
			n := newPatient(t, minion.Dir, minion.ConfigPath(), "salt-minion")
			for _, f := range minionFaults() {
				t.Run(f.check, func(t *testing.T) { n.heal(t, f) })
			}
			for _, p := range []patient{m, n} {
				bin, _, _ := strings.Cut(p.path, ":")
				asked, err := os.ReadFile(filepath.Join(bin, "asked"))
				if err != nil || strings.Trim(strings.ReplaceAll(string(asked), "restart "+p.service, ""), "\n") != "" {
					t.Errorf("systemctl was asked for %q, %v", asked, err)
				}
			}
			master.Restart()
			master.Ready()
			minion.Restart()
			minion.Answers(master)

			master.Stop()
			if worst, all := m.examine(t); worst["salt-master"].Severity != doctor.Error {
				t.Errorf("a master that has ended: %s", all)
			}
			minion.Stop()
			if worst, all := n.examine(t); worst["salt-minion"].Severity != doctor.Warning ||
				worst["master-ports"].Severity != doctor.Warning {
				t.Errorf("a minion that has ended: %s", all)
			}
		})
	}
}
