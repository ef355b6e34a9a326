package doctor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"phoenix/bridge/salt"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// The reactors of 2015, of Phoenix, and of others are told apart by their text and by
// what it leads to.
func TestReactors(t *testing.T) {
	dir := t.TempDir()
	shipped := filepath.Join("..", "..", "salt-extensions", "reactor")
	write(t, dir, "runners/letin.py", "def now():\n    __salt__['salt.cmd']('cmd.run', 'salt-key --accept=x')\n")
	served := write(t, dir, "states/orch/letin.sls", "x:\n  salt.wheel:\n    - name: key.accept\n")
	write(t, dir, "macros/let.jinja",
		"{% macro let(id) %}x:\n  wheel.key.accept:\n    - match: {{ id }}\n{% endmacro %}\n")
	put := func(name, text string) string { return write(t, dir, name, text) }
	c := salt.Config{RunnerDirs: []string{filepath.Join(dir, "runners")},
		Options: map[string]any{"file_roots": map[string]any{"base": []any{filepath.Join(dir, "states")}}}}
	for _, test := range []struct {
		tag, file string
		want      Actor
	}{
		{"salt/auth", filepath.Join(shipped, "auth.sls"), Actor{Calls: []string{callsOld}, Ours: true, Ear: true}},
		{"salt/key", filepath.Join(shipped, "key.sls"), Actor{Calls: []string{callsOld}, Ours: true, Ear: true}},
		{"salt/minion/*/start", filepath.Join(shipped, "start.sls"),
			Actor{Calls: []string{callsOld}, Ours: true, Ear: true}},
		{"salt/job/*/ret/*", filepath.Join(shipped, "ret.sls"), Actor{Calls: []string{callsStates}, Ours: true}},
		{"salt/auth", filepath.Join("..", "..", "lab", "bench", "seed", "auth.sls"),
			Actor{Calls: []string{callsOld}, Ear: true}},
		{"salt/a*", put("accept.sls", "{% if data['act'] == 'pend' %}\nx:\n  wheel.key.accept:\n    - args: [{match: {{ data['id'] }}}]\n{% endif %}\n"),
			Actor{Calls: []string{callsAccept}, Ear: true}},
		{"*", put("high.sls", "phoenix_start:\n  local.state.apply:\n    - tgt: {{ data['id'] }}\n"),
			Actor{Calls: []string{callsStates}, Ear: true}},
		{"salt/minion/i-*/start", put("sync.sls",
			"# wheel.key.accept\n{# key.accept #}\nx:\n  local.saltutil.sync_all: []\n"), Actor{Ear: true}},
		{"salt/job/*/ret/*", put("ret.sls", "x:\n  wheel.key.accept_dict: []"), Actor{Calls: []string{callsAccept}}},
		{"salt/engine/sqs/*", put("py.sls",
			"#!py\ndef run():\n    __salt__['wheel.key.accept'](data['id'])\n    return {}\n"),
			Actor{Calls: []string{callsAccept}, Ear: true}},
		{"salt/netapi/hook/*", put("cmd.sls",
			"x:\n  local.cmd.run:\n    - tgt: salt-1\n    - arg: ['salt-key -y -a {{ data.id }}']\n"),
			Actor{Calls: []string{callsAccept}, Ear: true}},
		{"my/tag", put("list.sls", "#!py\ndef run():\n    subprocess.run(['salt-key',\n        '-y', '-a', data['id']])\n    return {}\n"), Actor{Calls: []string{callsAccept}}},
		{"my/tag", put("listd.sls", "#!py\ndef run():\n    subprocess.run([\"salt-key\", \"--delete\", data['id']])\n"),
			Actor{Calls: []string{callsKeys}}},
		{"my/tag", put("object.sls", "#!py\nimport salt.key\ndef run():\n    k = salt.key.get_key(__opts__)\n    k.accept(match=data['id'])\n"), Actor{Calls: []string{callsAccept}}},
		{"my/tag", put("lists.sls", "#!py\ndef run():\n    subprocess.run(['salt-key', '-L'])\n    subprocess.run(['ls', '-a'])\n"), Actor{}},
		{"my/tag", put("macro.sls", "{% from 'macros/let.jinja' import let %}\n{{ let(data['id']) }}\n"),
			Actor{Calls: []string{callsAccept}}},
		{"my/tag", put("all.sls", "x:\n  local.cmd.run:\n    - arg: ['salt-key -yA']\n"),
			Actor{Calls: []string{callsAccept}}},
		{"my/tag", put("del.sls", "x:\n  local.cmd.run:\n    - arg: ['salt-key -yd {{ data.id }}']\n"),
			Actor{Calls: []string{callsKeys}}},
		{"minion_start", put("runner.sls", "x:\n  runner.letin.now: []\n"),
			Actor{Calls: []string{callsAccept}, Ear: true}},
		{"my/tag", put("orch.sls", "x:\n  runner.state.orchestrate:\n    - args:\n      - mods: orch.letin\n"),
			Actor{Calls: []string{callsStates, callsAccept}}},
		{"my/tag", "salt://orch/letin.sls", Actor{File: served, Calls: []string{callsAccept}}},
		{"salt/auth", filepath.Join(dir, "none*.sls"), Actor{Err: errors.New("there is no such file"), Ear: true}},
		{"salt/auth", "salt://react.sls",
			Actor{Err: errors.New("it is on a file server that is not in folders here"), Ear: true}},
	} {
		s := scanner{c: c}
		s.reaction(salt.Reaction{Tag: test.tag, Files: []string{test.file}})
		test.want.Check, test.want.On = "reactor", test.tag
		if test.want.File == "" {
			test.want.File = test.file
		}
		if fmt.Sprintf("%+v", s.found) != fmt.Sprintf("%+v", []Actor{test.want}) {
			t.Errorf("on %s, %s: %+v, not %+v", test.tag, test.file, s.found, test.want)
		}
	}
}

// Engines, the master's schedule, and orchestrations are read with the files that they
// lead to.
func TestEnginesScheduleAndOrchestrations(t *testing.T) {
	dir := t.TempDir()
	engine := write(t, dir, "ext/engines/letin.py", "def start():\n    __salt__['key.accept']('x')\n")
	write(t, dir, "thorium/top.sls", "base: {'*': [old]}\n")
	thorium := write(t, dir, "thorium/old.sls", "statreg:\n  status.reg\nkeydel:\n  key.timeout:\n    - delete: 60\n")
	orchestration := write(t, dir, "states/orch/letin.sls",
		"x:\n  salt.wheel:\n    - name: key.accept\n    - match: x\n")
	write(t, dir, "states/web.sls", "nginx: pkg.installed\n")
	got := actors(salt.Config{ExtensionModules: filepath.Join(dir, "ext"), Options: map[string]any{
		"engines": []any{"letin", map[string]any{"sqs_events": map[string]any{"queue": "fleet"}},
			map[string]any{"thorium": nil}, "logstash"},
		"thorium_roots": map[string]any{"base": []any{filepath.Join(dir, "thorium")}},
		"file_roots":    map[string]any{"base": []any{filepath.Join(dir, "states")}},
		"schedule": map[string]any{"nightly": map[string]any{"function": "state.orchestrate",
			"args": []any{"orch.letin"}},
			"off": map[string]any{"function": "key.delete", "enabled": false}},
	}})
	want := []Actor{
		{Check: "engines", On: "letin", File: engine, Calls: []string{callsAccept}},
		{Check: "engines", On: "sqs_events", File: "fleet", Calls: []string{takesQueue}},
		{Check: "engines", On: "thorium", File: thorium, Calls: []string{callsKeys}},
		{Check: "engines", On: "logstash"},
		{Check: "master-schedule", On: "nightly", Calls: []string{callsAccept, callsStates}},
		{Check: "orchestration", On: "orch/letin.sls", File: orchestration, Calls: []string{callsAccept}},
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// The text of a command touches nothing but what the finding names, whatever a key is
// called.
func TestCommandsAreQuoted(t *testing.T) {
	m := plainMaster()
	m.Config.Path = "/srv/it's/master"
	const program = `phoenix --salt-config '/srv/it'\''s/master' keys delete `
	for id, want := range map[string]string{
		"web-1":         program + `web-1 --state denied`,
		"$(reboot)":     program + `'$(reboot)' --state denied`,
		"a'; reboot; '": program + `'a'\''; reboot; '\''' --state denied`,
		"\u202e":        "the ids cannot be typed: ls -b /etc/salt/pki/master",
	} {
		if got := m.deleteKeys([]Key{{ID: id, State: salt.Denied}}).String(); got != want {
			t.Errorf("%q: %s, not %s", id, got, want)
		}
	}
	if got := remove("rm", []string{"/a b", "/c"}).String(); got != "rm -- '/a b' /c" {
		t.Error(got)
	}
	// Words that follow a fix do not take its place.
	if got := remove("rm", []string{"/a\n"}).and("x").then("and more").String(); got != "remove it by hand: ls -b /, then: x; and more" {
		t.Error(got)
	}
}

// A unit and its drop-ins are read as systemd reads them.
func TestUnit(t *testing.T) {
	dir := t.TempDir()
	folders := []string{filepath.Join(dir, "etc"), filepath.Join(dir, "lib")}
	for _, step := range []struct {
		name, text string
		want       Unit
	}{
		{"lib/other.service", "", Unit{}},
		{"lib/salt-minion.service", "[Service]\nKillMode=mixed\nTimeoutStopSec=1min 30s\n",
			Unit{KillMode: "mixed", TimeoutStopSec: 90}},
		{"lib/salt-minion.service.d/50.conf", "[Service]\nTimeoutStopSec=5\n",
			Unit{KillMode: "mixed", TimeoutStopSec: 5}},
		{"lib/salt-minion.service.d/60.conf", "[Service]\nKillMode=process\n",
			Unit{KillMode: "process", TimeoutStopSec: 5}},
		{"etc/salt-minion.service.d/60.conf", "[Service]\nTimeoutStopSec=7\n",
			Unit{KillMode: "mixed", TimeoutStopSec: 7}},
	} {
		write(t, dir, step.name, step.text)
		u := readUnit("salt-minion.service", folders)
		if u.Path = ""; u != step.want {
			t.Errorf("after %s: %+v, not %+v", step.name, u, step.want)
		}
	}
}

// The fix of a unit is a drop-in after which nothing is found. The test writes it to a
// folder of its own, since /etc/systemd is the machine's, and systemctl does nothing.
func TestUnitFix(t *testing.T) {
	for _, text := range []string{"[Service]\nKillMode=mixed\n", "[Service]\n", "[Service]\nKillMode=process\n"} {
		dir := t.TempDir()
		folders := []string{filepath.Join(dir, "etc"), filepath.Join(dir, "lib")}
		write(t, dir, "lib/salt-minion.service", text)
		write(t, dir, "etc/salt-minion.service.d/override.conf", "[Service]\nTimeoutStopSec=5min\n")
		bin := t.TempDir()
		if err := os.Symlink("/bin/true", filepath.Join(bin, "systemctl")); err != nil {
			t.Fatal(err)
		}
		find := func() Finding {
			var r report
			examineUnit(&r, Minion{Unit: readUnit("salt-minion.service", folders)})
			return r.findings[0]
		}
		found := find()
		if found.Check != "unit" || len(found.Commands) == 0 {
			t.Fatalf("%q: no command: %+v", text, found)
		}
		for _, command := range found.Commands {
			cmd := exec.Command("sh", "-c", strings.ReplaceAll(command, "/etc/systemd/system", folders[0]))
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", command, err, out)
			}
		}
		if now := find(); now.Severity != OK {
			t.Errorf("%q: after %q: %+v", text, found.Mend, now)
		}
	}
}

// What the kernel lists is read as it writes it. No network file system can be mounted
// here, so its line is the one of proc_pid_mountinfo(5) with another kind.
func TestMounts(t *testing.T) {
	path := write(t, t.TempDir(), "mountinfo", "36 35 98:0 / / rw,noatime master:1 - ext4 /dev/root rw\n"+
		"37 36 0:50 / /mnt/a\\040b rw,relatime shared:2 shared:3 - nfs4 fs-1:/ rw,vers=4.1\nodd\n")
	found, err := mounts(path)
	if err != nil || len(found) != 2 || on(found, "/mnt/a b/c").Kind != "nfs4" || on(found, "/mnt/a").Kind != "ext4" {
		t.Errorf("%+v, %v", found, err)
	}
}

// A job cache that root has written to keeps a master that runs as another user from
// publishing; what doctor prints gives it back.
func TestForeignJobs(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "jobs/0a/x/jid", "1")
	write(t, dir, "jobs/file", "no folder")
	c := salt.Config{Path: "/etc/salt/master", CacheDir: dir, User: "nobody"}
	if n := len(foreignJobs(c)); n != 0 {
		t.Errorf("%d folders, and the master's user is not configured: it is not the caller", n)
	}
	c.Options = map[string]any{"user": "nobody"}
	found := func() []Finding {
		var r report
		examineJobs(&r, Master{Config: c, ForeignJobs: foreignJobs(c)})
		return slices.DeleteFunc(r.findings, func(f Finding) bool { return f.Severity != Error })
	}
	before := found()
	if len(before) != 1 || len(before[0].Commands) != 1 || !strings.Contains(before[0].What, "2 folders") {
		t.Fatalf("%+v", before)
	}
	if root := (salt.Config{CacheDir: dir, User: "root",
		Options: map[string]any{"user": "root"}}); len(foreignJobs(root)) != 0 {
		t.Error("root can write everywhere")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	if out, err := exec.Command("sh", "-c", before[0].Commands[0]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if after := found(); len(after) != 0 {
		t.Errorf("after %s: %+v", before[0].Commands[0], after)
	}
}
