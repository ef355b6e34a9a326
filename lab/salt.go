package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// The releases of Salt that Phoenix is tried on: the newest patch of each
// supported series.
const (
	Salt3006 = "3006.30"
	Salt3007 = "3007.17"
	Salt3008 = "3008.5"
)

// Versions are these releases, the oldest first.
func Versions() []string { return []string{Salt3006, Salt3007, Salt3008} }

// OldVersions are the oldest patches that people still run. Their event buses
// have no lengths before messages, as that of [Salt3006] has, and what minions
// send has no "ts".
func OldVersions() []string { return []string{"3006.9", "3007.1"} }

// cliTimeout bounds one run of a Salt command: a busy machine needs 5 s to
// import Salt, and a command may wait 15 s for its minions.
const cliTimeout = 2 * time.Minute

// Salt is one installed release.
type Salt struct {
	Version string
	bin     string
}

// FindSalt finds the release that "go run ./lab/install" installed.
func FindSalt(version string) (Salt, error) {
	root, err := Root()
	if err != nil {
		return Salt{}, err
	}
	bin := filepath.Join(root, ".cache", "salt-"+version, "bin")
	// The installation writes this last.
	if _, err := os.Stat(filepath.Join(bin, "..", "complete")); err != nil {
		return Salt{}, fmt.Errorf("find Salt %s: not installed; run: go run ./lab/install %s", version, version)
	}
	return Salt{Version: version, bin: bin}, nil
}

// Python is the interpreter that this Salt is installed in.
func (s Salt) Python() string { return filepath.Join(s.bin, "python") }

// daemon is the command line of salt-master or salt-minion.
func (s Salt) daemon(name, configDir string) []string {
	return []string{s.Python(), filepath.Join(s.bin, name), "-c", configDir, "-l", "info"}
}

// saltEnv keeps Salt's processes as they are found by: setproctitle would
// overwrite the environment where the kernel shows it.
func saltEnv() []string { return []string{"SPT_NOENV=1"} }

// run is one run of a Salt command against the configuration in configDir.
// stderr is part of the error only.
func (s Salt) run(configDir, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), cliTimeout)
	defer cancel()
	args = append([]string{filepath.Join(s.bin, name), "-c", configDir}, args...)
	cmd := exec.CommandContext(ctx, s.Python(), args...)
	cmd.Env = append(append(os.Environ(), saltEnv()...), mark+"="+configDir+"/")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args[3:], " "), err, out, stderr.String())
	}
	return string(out), nil
}

// writeConfig writes a Salt configuration: base, with extra over it.
func writeConfig(path string, base, extra map[string]any) error {
	for key, value := range extra {
		base[key] = value
	}
	text, err := yaml.Marshal(base)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.WriteFile(path, text, 0o644)
}

// decodeJSON reads what a command printed; Salt's --static makes it one object.
func decodeJSON(text string, into any) error {
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("read JSON: %w in %q", err, text)
	}
	return nil
}

// noAnswer reports whether the salt command printed this instead of an answer.
func noAnswer(text string) bool {
	return strings.HasPrefix(text, "Minion did not return")
}

// Call runs a function by salt-call, with the minion's configuration in configDir.
func (s Salt) Call(configDir, function string, args ...string) (string, error) {
	return s.run(configDir, "salt-call", append([]string{function}, args...)...)
}
