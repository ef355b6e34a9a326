package e2e_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
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
)

// askedEvery is how often a test looks whether a command of a fix wants something done.
const askedEvery = 50 * time.Millisecond

// doctorOn runs doctor with a configuration of Phoenix, and the commands of its fixes as
// they are printed. systemctl and chronyc stand for systemd and chronyd, which do not run
// here: they record their arguments and wait until the test has done what these do.
type doctorOn struct {
	lab    *lab.Lab
	config string
	env    []string
	bin    string
	does   map[string]func() // by command: "systemctl restart salt-minion"
	salt   []string          // folders of Salt's configuration and keys
}

// newDoctorOn makes the programs that fixes name, in a folder of their own.
func newDoctorOn(t *testing.T, l *lab.Lab, config string, env []string, salt ...string) doctorOn {
	t.Helper()
	binary, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	d := doctorOn{lab: l, config: config, env: env, bin: t.TempDir(), does: map[string]func(){}, salt: salt}
	if err := os.WriteFile(filepath.Join(d.bin, "phoenix"), fmt.Appendf(nil, "#!/bin/sh\nexec %s \"$@\"\n", binary),
		0o755); err != nil {
		t.Fatal(err)
	}
	d.stands(t, "systemctl")
	return d
}

// stands makes a program that stands for one of the machine's.
func (d doctorOn) stands(t *testing.T, program string) {
	t.Helper()
	text := fmt.Sprintf("#!/bin/sh\ncd %s\necho \"%s $*\" | tee -a asked >.now\nmv .now now\nwhile [ -e now ]; do sleep 0.05; done\n", d.bin, program)
	if err := os.WriteFile(filepath.Join(d.bin, program), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// asked is what the programs were asked for so far, a line each.
func (d doctorOn) asked() string {
	text, _ := os.ReadFile(filepath.Join(d.bin, "asked")) // not there before the first
	return string(text)
}

// examine returns the worst finding of each check.
func (d doctorOn) examine(t *testing.T) map[string]doctor.Finding {
	t.Helper()
	cmd := exec.Command(filepath.Join(d.bin, "phoenix"), "--config", d.config, "doctor", "--json")
	cmd.Env = append(append(os.Environ(), d.env...), "PATH="+d.bin) // what else is installed here does not count
	out, _ := cmd.Output()                                          // exit code 1: it found something
	var list []doctor.Finding
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("read findings: %v\n%s", err, out)
	}
	worst := map[string]doctor.Finding{}
	for _, f := range list { // the worst come first
		if _, known := worst[f.Check]; !known {
			worst[f.Check] = f
		}
	}
	return worst
}

// run runs the commands of a fix as they are printed, and does what the programs of the
// machine are asked for.
func (d doctorOn) run(t *testing.T, f doctor.Finding) {
	t.Helper()
	if len(f.Commands) == 0 || !strings.HasPrefix(f.Mend, strings.Join(f.Commands, "; ")) {
		t.Fatalf("no command, or not as it is printed: %+v", f)
	}
	now := filepath.Join(d.bin, "now")
	for _, command := range f.Commands {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Env = append(append(os.Environ(), d.env...), "PATH="+d.bin+":"+os.Getenv("PATH"))
		ended := make(chan error, 1)
		var out []byte
		go func() {
			var err error
			out, err = cmd.CombinedOutput()
			ended <- err
		}()
		for running := true; running; {
			select {
			case err := <-ended:
				if running = false; err != nil {
					t.Fatalf("%s: %v\n%s", command, err, out)
				}
			case <-time.After(askedEvery):
				text, err := os.ReadFile(now)
				if err != nil {
					continue // nothing is asked for
				}
				do := d.does[strings.TrimSpace(string(text))]
				if do == nil {
					t.Errorf("%s asks for %q", command, text)
				} else {
					do()
				}
				if err := os.Remove(now); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// files is the digest of each file of Salt's configuration and keys, and whom it belongs
// to; without the records of bridge and agent, whose names begin with a dot.
func (d doctorOn) files(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, dir := range d.salt {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
				return err
			}
			text, err := os.ReadFile(path)
			info, gone := e.Info()
			if err = errors.Join(err, gone); err == nil {
				found[path] = fmt.Sprintf("%v %x", info.Mode(), sha256.Sum256(text))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// found waits until a check has a finding of a severity.
func (d doctorOn) found(t *testing.T, check string, severity doctor.Severity) (f doctor.Finding) {
	t.Helper()
	d.lab.Eventually(within, string(severity)+" of "+check, func() (bool, string) {
		f = d.examine(t)[check]
		return f.Severity == severity, fmt.Sprintf("%+v", f)
	})
	return f
}

// heal plants a fault, expects doctor to find it, runs what doctor prints, and expects all
// checks to find what they found before, and all files of Salt to be as before.
func (d doctorOn) heal(t *testing.T, check string, severity doctor.Severity, plant func()) {
	t.Helper()
	sound, files := d.examine(t), d.files(t)
	plant()
	found := d.found(t, check, severity)
	t.Logf("%s: %s", check, found.Mend)
	d.run(t, found)
	d.lab.Eventually(within, "all checks find what they found before "+check+" was planted", func() (bool, string) {
		return d.same(t, sound)
	})
	d.lab.Eventually(within, "all files are as before "+check+" was planted", func() (bool, string) {
		now := d.files(t)
		return maps.Equal(now, files), fmt.Sprintf("before %v\nnow %v", files, now)
	})
}

// same compares the findings of all checks with former ones, and returns what differs.
func (d doctorOn) same(t *testing.T, before map[string]doctor.Finding) (same bool, differ string) {
	t.Helper()
	now := d.examine(t)
	var lines []string
	for _, check := range slices.Sorted(maps.Keys(before)) {
		if now[check].Severity != before[check].Severity {
			lines = append(lines, fmt.Sprintf("%s: found %+v, and finds %+v", check, before[check], now[check]))
		}
	}
	return len(lines) == 0, strings.Join(lines, "\n")
}
