package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/doctor"
	"phoenix/bridge/fleet"
	"phoenix/bridge/service"
	"phoenix/lab"
)

// TestRunners: Salt's own ways to the bridge, by the files as they are shipped. Each
// version finds the runners in another way, and one in all of them.
func TestRunners(t *testing.T) {
	t.Parallel()
	for _, version := range lab.Versions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newSaltSide(t, version)
			switch version {
			case lab.Salt3006: // runner_dirs, as master.d/phoenix.conf has it
				s.start(t, nil)
			case lab.Salt3007:
				s.start(t, s.gitFileserver(t))
				s.notFound(t, s.master.Salt.Python())
				s.master.Run("salt-run", "fileserver.update")
				s.master.Run("salt-run", "saltutil.sync_runners")
			default:
				s.start(t, nil)
				s.copyRunners(t, s.extensionModules())
			}
			t.Run("reactor without the bus", s.reactorAlone)
			t.Run("reactor and bus", s.reactorAndBus)
			if version == lab.Salt3007 {
				t.Run("documentation", s.documentation)
				t.Run("what a call costs", s.cost)
				t.Run("extension_modules", s.extensionModulesWay)
				t.Run("pip", s.pipWay)
				s.copyRunners(t, s.extensionModules())
			}
			t.Run("doctor", s.doctor)
			t.Run("roster", s.roster)
			t.Run("resume", s.resume)
			t.Run("errors", s.errors)
		})
	}
}

// saltSide is a master with the extensions of Phoenix in its configuration.
type saltSide struct {
	lab     *lab.Lab
	version string
	source  string // the repository's root
	files   string // where the reactors are, and on 3006 the runners
	socket  string
	conf    []string // what the master's configuration includes

	master  *lab.Master
	deaf    *lab.Bridge // does not listen to the bus
	hearing *lab.Bridge // does
}

func newSaltSide(t *testing.T, version string) *saltSide {
	t.Helper()
	l := lab.New(t)
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	s := &saltSide{lab: l, version: version, source: root, files: filepath.Join(l.Dir(), "salt-extensions"),
		socket: filepath.Join(l.Dir(), "bridge.sock")}
	copyTree(t, filepath.Join(root, "salt-extensions"), s.files)
	if version != lab.Salt3006 {
		if err := os.RemoveAll(filepath.Join(s.files, "_runners")); err != nil {
			t.Fatal(err)
		}
	}
	// As an admin would copy them, but for the places that are the lab's own.
	places := strings.NewReplacer("/usr/share/phoenix/salt-extensions", s.files, "/run/phoenix/bridge.sock", s.socket)
	for _, name := range []string{"phoenix.conf", "phoenix-reactor.conf"} {
		path := filepath.Join(s.files, "master.d", name)
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(places.Replace(string(text))), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.conf = append(s.conf, path)
	}
	return s
}

// start starts the master, and makes its bridges.
func (s *saltSide) start(t *testing.T, extra map[string]any) {
	t.Helper()
	config := map[string]any{"include": s.conf}
	maps.Copy(config, extra)
	s.master = s.lab.StartMaster(lab.MasterOptions{Version: s.version, Extra: config})
	s.deaf = s.lab.NewBridge(lab.BridgeOptions{Master: s.master,
		Config: map[string]any{"socket": s.socket, "bus": "off"}})
	s.hearing = s.lab.NewBridge(lab.BridgeOptions{Master: s.master, Config: map[string]any{"socket": s.socket}})
	s.master.Ready()
}

// gitFileserver serves salt-extensions from a git repository.
func (s *saltSide) gitFileserver(t *testing.T) map[string]any {
	t.Helper()
	repository := filepath.Join(s.lab.Dir(), "repository")
	copyTree(t, filepath.Join(s.source, "salt-extensions"), filepath.Join(repository, "salt-extensions"))
	for _, args := range []string{"init --quiet --initial-branch=main", "add .",
		"-c user.name=lab -c user.email=lab@localhost commit --quiet --message=all"} {
		cmd := exec.Command("git", strings.Fields(args)...)
		cmd.Dir = repository
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	return map[string]any{
		"fileserver_backend": []string{"roots", "gitfs"},
		"gitfs_provider":     "gitpython",
		"gitfs_remotes":      []string{"file://" + repository},
		"gitfs_root":         "salt-extensions",
		"gitfs_base":         "main",
	}
}

// extensionModules is where the master looks for runners by default, and where
// saltutil.sync_runners puts them.
func (s *saltSide) extensionModules() string {
	return filepath.Join(s.master.Dir, "var", "cache", "salt", "master", "extmods", "runners")
}

func (s *saltSide) copyRunners(t *testing.T, dir string) {
	t.Helper()
	copyTree(t, filepath.Join(s.source, "salt-extensions", "_runners"), dir)
}

// saltRun runs salt-run as root would, by that interpreter.
func (s *saltSide) saltRun(t *testing.T, python string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	stdout, stderr, state := s.saltRunState(t, python, args...)
	return stdout, stderr, state.ExitCode()
}

// saltRunState is saltRun for callers that need more of the process than its exit code.
func (s *saltSide) saltRunState(t *testing.T, python string,
	args ...string) (stdout, stderr string, state *os.ProcessState) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	command := filepath.Join(filepath.Dir(s.master.Salt.Python()), "salt-run")
	cmd := exec.CommandContext(ctx, python,
		append([]string{command, "-c", filepath.Dir(s.master.ConfigPath())}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("salt-run %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState
}

// found: the runner answers, and what the bridge says.
func (s *saltSide) found(t *testing.T, python string) {
	t.Helper()
	out, stderr, code := s.saltRun(t, python, "--out=json", "phoenix.masters")
	var masters []fleet.Master
	err := json.Unmarshal([]byte(out), &masters)
	if code != 0 || err != nil || len(masters) != 1 || masters[0].InstanceID != s.master.ID {
		t.Fatalf("salt-run phoenix.masters: exit %d, %v\n%s%s", code, err, out, stderr)
	}
}

// notFound: without what follows, there would be no such runner.
func (s *saltSide) notFound(t *testing.T, python string) {
	t.Helper()
	if out, stderr, _ := s.saltRun(t, python, "phoenix.masters"); !strings.Contains(out,
		"'phoenix.masters' is not available.") {
		t.Fatalf("salt-run phoenix.masters, of no runner:\n%s%s", out, stderr)
	}
}

// status is what the bridge says of itself.
func (s *saltSide) status(b *lab.Bridge) (status struct {
	Minions map[decide.Phase]int `json:"minions"`
	Bridge  service.Report       `json:"bridge"`
}) {
	out, _, code := b.Try("status", "--json")
	if code != 0 { // a bridge that has just begun has no store yet
		return status
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		panic(fmt.Sprintf("phoenix status --json: %v: %s", err, out))
	}
	maps.DeleteFunc(status.Minions, func(_ decide.Phase, n int) bool { return n == 0 })
	return status
}

// reactorAlone: a bridge that does not listen to the bus lets a minion in and runs
// its highstate once, by what the reactor tells, and leaves an unknown one outside.
func (s *saltSide) reactorAlone(t *testing.T) {
	s.lab.In(t)
	s.deaf.Start()
	s.lab.Eventually(within, "the bridge without a bus is ready", func() (bool, string) {
		st := s.status(s.deaf).Bridge
		return st.Master.Ready && st.Master.Incarnation == st.Incarnation && st.Incarnation != "",
			fmt.Sprintf("%+v", st)
	})
	defer s.deaf.Stop()
	s.lab.StartMinion(lab.MinionOptions{ID: "guest", Masters: []*lab.Master{s.master}})
	f := fixture{s.lab, s.master, s.deaf}
	// A comparison, every two minutes, would do without the reactor. If one came in
	// between, another minion has to show it.
	const tries = 3
	for i := range tries {
		compared := s.status(s.deaf).Bridge.Engine.ResyncAt
		id := fmt.Sprintf("web-%d", i)
		if out, stderr, code := s.saltRun(t, s.master.Salt.Python(), "phoenix.add", id); code != 0 {
			t.Fatalf("salt-run phoenix.add %s: exit %d\n%s%s", id, code, out, stderr)
		}
		f.ran(t, s.lab.StartMinion(lab.MinionOptions{ID: id, Masters: []*lab.Master{s.master}}), 1)
		st := s.status(s.deaf)
		if st.Bridge.Bus.Connected || st.Bridge.Bus.Events > 0 {
			t.Fatalf("the bridge listens to the bus: %+v", st.Bridge.Bus)
		}
		if !st.Bridge.Engine.ResyncAt.Equal(compared) {
			t.Logf("%s: keys and fleet were compared meanwhile", id)
			continue
		}
		if want := map[decide.Phase]int{decide.PhaseDone: i + 1,
			decide.PhaseUnlisted: 1}; !maps.Equal(st.Minions, want) {
			t.Errorf("minions stand %v, not %v", st.Minions, want)
		}
		return
	}
	t.Fatalf("keys and fleet were compared during each of %d tries: the machine is too slow for this test", tries)
}

// reactorAndBus: told of everything twice, the bridge does it once.
func (s *saltSide) reactorAndBus(t *testing.T) {
	s.lab.In(t)
	s.hearing.Start()
	s.hearing.Ready()
	told := len(s.master.Grep("Runner completed"))
	s.hearing.Phoenix("minions", "add", "db-1")
	minion := s.lab.StartMinion(lab.MinionOptions{ID: "db-1", Masters: []*lab.Master{s.master}})
	f := fixture{s.lab, s.master, s.hearing}
	row := f.ran(t, minion, 1)
	s.lab.Eventually(within, "the reactor has told of auth request, key, start and return", func() (bool, string) {
		n := len(s.master.Grep("Runner completed")) - told
		return n >= 4, fmt.Sprintf("%d calls of runners", n)
	})
	s.lab.Never(settle, "another highstate began", func() (bool, string) {
		return minion.Runs() != 1, fmt.Sprintf("%+v", minion.RunLog())
	})
	f.still(t, minion, row, 1)
	for _, once := range []string{`msg="key accepted" minion=db-1 `, `msg="highstate claimed" minion=db-1 `,
		`msg="highstate published" minion=db-1 `} {
		if lines := s.hearing.Grep(once); len(lines) != 1 {
			t.Errorf("%s: %d times\n%s", once, len(lines), f.story(minion))
		}
	}
	if events := s.status(s.hearing).Bridge.Bus.Events; events == 0 {
		t.Error("the bridge heard nothing on the bus")
	}
}

// documentation: each function has its example.
func (s *saltSide) documentation(t *testing.T) {
	for _, name := range []string{"phoenix", "key_runner", "highstate_runner"} {
		out, stderr, code := s.saltRun(t, s.master.Salt.Python(), "-d", name)
		functions, examples := strings.Count("\n"+out, "\n"+name+"."), strings.Count(out, "    salt-run "+name+".")
		if code != 0 || functions == 0 || examples < functions {
			t.Errorf("salt-run -d %s: exit %d, %d functions, %d examples\n%s%s", name, code, functions,
				examples, out, stderr)
		}
	}
}

// cost: what the bridge adds to Salt's own empty runner, by turns, the best of each:
// the processor's time of salt-run, which is the same beside other tests.
func (s *saltSide) cost(t *testing.T) {
	const (
		least, rounds = 4, 12
		most          = 200 * time.Millisecond
	)
	best := map[string]time.Duration{}
	extra := func() time.Duration { return best["phoenix.status"] - best["test.arg"] }
	n := 0
	for ; n < least || n < rounds && extra() > most; n++ {
		for _, function := range []string{"test.arg", "phoenix.status"} {
			out, stderr, state := s.saltRunState(t, s.master.Salt.Python(), function)
			if state.ExitCode() != 0 {
				t.Fatalf("salt-run %s: %v\n%s%s", function, state, out, stderr)
			}
			if took := state.UserTime() + state.SystemTime(); best[function] == 0 || took < best[function] {
				best[function] = took
			}
		}
	}
	t.Logf("best of %d: test.arg %v, phoenix.status %v: %v more", n, best["test.arg"].Round(time.Millisecond),
		best["phoenix.status"].Round(time.Millisecond), extra().Round(time.Millisecond))
	if extra() > most {
		t.Errorf("phoenix.status costs %v more than test.arg", extra())
	}
}

// doctor: what was found comes back whole, and on a master with Phoenix's own reactor
// and runners there is nothing that bypasses them.
func (s *saltSide) doctor(t *testing.T) {
	out, stderr, code := s.saltRun(t, s.master.Salt.Python(), "--out=json", "phoenix.doctor")
	var found []doctor.Finding
	if err := json.Unmarshal([]byte(out), &found); code != 0 || err != nil {
		t.Fatalf("salt-run phoenix.doctor: exit %d, %v\n%s%s", code, err, out, stderr)
	}
	seen := map[string]bool{}
	for _, f := range found {
		seen[f.Check] = true
		if f.Severity == doctor.Error || f.Severity == doctor.Warning {
			t.Errorf("%+v", f)
		}
	}
	for _, check := range []string{"salt-master", "reactor", "old-runners", "key-store", "bridge", "store",
		"fleet-key"} {
		if !seen[check] {
			t.Errorf("%s was not looked at: %+v", check, found)
		}
	}
}

// roster: the fleet as salt-ssh wants it, and nobody else.
func (s *saltSide) roster(t *testing.T) {
	out, stderr, code := s.saltRun(t, s.master.Salt.Python(), "--out=json", "phoenix.roster", "host=id",
		"grain=id:db-*", "user=admin")
	var roster map[string]map[string]string
	if err := json.Unmarshal([]byte(out), &roster); code != 0 || err != nil || len(roster) != 1 ||
		!maps.Equal(roster["db-1"], map[string]string{"host": "db-1", "user": "admin"}) {
		t.Errorf("salt-run phoenix.roster: exit %d, %v\n%s%s", code, err, out, stderr)
	}
}

// resume: a breaker that is not open is left as it is. TestBreaker closes one that is.
func (s *saltSide) resume(t *testing.T) {
	out, stderr, code := s.saltRun(t, s.master.Salt.Python(), "--out=json", "phoenix.resume")
	var r struct {
		WasOpen *bool `json:"was_open"`
	}
	if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil || r.WasOpen == nil || *r.WasOpen {
		t.Errorf("salt-run phoenix.resume: exit %d, %v\n%s%s", code, err, out, stderr)
	}
}

// extensionModulesWay: the files copied to where the master looks for its own.
func (s *saltSide) extensionModulesWay(t *testing.T) {
	python := s.master.Salt.Python()
	s.found(t, python) // by saltutil.sync_runners, from git
	if err := os.RemoveAll(s.extensionModules()); err != nil {
		t.Fatal(err)
	}
	s.notFound(t, python)
	s.copyRunners(t, s.extensionModules())
	s.found(t, python)
	if err := os.RemoveAll(s.extensionModules()); err != nil {
		t.Fatal(err)
	}
}

// pipWay: installed into an environment that has this Salt, and then found there.
func (s *saltSide) pipWay(t *testing.T) {
	// Salt's own environment is other tests' as well, so this one lies over it.
	over := filepath.Join(t.TempDir(), "environment")
	salt := s.master.Salt.Python()
	s.output(t, salt, "-m", "venv", "--without-pip", over)
	python := filepath.Join(over, "bin", "python")
	const where = "import sysconfig; print(sysconfig.get_path('purelib'))"
	below := s.output(t, salt, "-c", where)
	if err := os.WriteFile(filepath.Join(s.output(t, python, "-c", where), "salt.pth"), []byte(below+"\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	s.notFound(t, python)
	// setuptools leaves its work beside what it builds from.
	source := filepath.Join(t.TempDir(), "source")
	copyTree(t, filepath.Join(s.source, "salt-extensions"), filepath.Join(source, "salt-extensions"))
	for _, name := range []string{"pyproject.toml", "LICENSE", "docs/runners.md"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(source, name)), 0o755),
			copyFile(filepath.Join(s.source, name), filepath.Join(source, name))); err != nil {
			t.Fatal(err)
		}
	}
	s.output(t, salt, "-m", "pip", "--python", python, "install", "--disable-pip-version-check", "--no-input",
		"--no-deps", source)
	s.found(t, python)
}

// output runs a command that must succeed.
func (s *saltSide) output(t *testing.T, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// errors: one line, exit code 1, and no traceback.
func (s *saltSide) errors(t *testing.T) {
	python := s.master.Salt.Python()
	if out, stderr, code := s.saltRun(t, python, "phoenix.add", "gone-1"); code != 0 {
		t.Fatalf("salt-run phoenix.add: exit %d\n%s%s", code, out, stderr)
	}
	for _, fault := range []struct {
		says string
		args []string
		stop bool
	}{
		{says: "retire web-9: not in the fleet (unknown=True to retire it all the same)",
			args: []string{"phoenix.retire", "web-9"}},
		{says: "retire web-9: not in the fleet (unknown=True to retire it all the same); done: gone-1",
			args: []string{"phoenix.retire", "gone-1", "web-9"}},
		{says: "is not a map with an id", args: []string{"key_runner.main", "web-1"}},
		{says: "decode key: malformed: no id", args: []string{"highstate_runner.manage", "{}"}},
		{says: "none answers on " + s.socket, args: []string{"phoenix.status"}, stop: true},
	} {
		if fault.stop {
			s.hearing.Stop()
		}
		out, stderr, code := s.saltRun(t, python, fault.args...)
		if code != 1 || strings.Count(out, "\n") != 1 || !strings.Contains(out, fault.says) ||
			strings.Contains(out+stderr, "Traceback") {
			t.Errorf("salt-run %s: exit %d\n%s%s", strings.Join(fault.args, " "), code, out, stderr)
		}
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
