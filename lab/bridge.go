package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"phoenix/bridge/fleet"
)

// BridgeOptions say how a bridge differs from the lab's plain one.
type BridgeOptions struct {
	Master *Master
	Store  string         // default: one SQLite file that all bridges of the lab share
	Config map[string]any // over the lab's configuration, by the keys of phoenix.yaml
	Env    []string       // beside the test's own: "NAME=value"
}

// Bridge is "phoenix bridge" beside a master, and the other commands with the
// same configuration.
type Bridge struct {
	*Process
	Master *Master
	binary string
	vars   []string
}

// NewBridge writes a bridge's configuration. Its commands work, and Start starts
// it.
func (l *Lab) NewBridge(o BridgeOptions) *Bridge {
	l.tb.Helper()
	binary, err := Binary()
	if err != nil {
		l.tb.Fatalf("%v", err)
	}
	if o.Store == "" {
		o.Store = "sqlite:" + filepath.Join(l.dir, "fleet.db")
	}
	b := &Bridge{Process: l.process("bridge"), Master: o.Master, binary: binary, vars: o.Env}
	base := map[string]any{
		"store":       o.Store,
		"salt_config": o.Master.ConfigPath(),
		"instance_id": o.Master.ID,
		"address":     o.Master.Addr,
		"socket":      filepath.Join(b.Dir, "bridge.sock"),
	}
	if !strings.HasPrefix(o.Store, "sqlite:") { // beside the file of that one, by default
		base["audit"] = map[string]any{"file": filepath.Join(b.Dir, "audit.log")}
	}
	if err := writeConfig(b.ConfigPath(), base, o.Config); err != nil {
		l.tb.Fatalf("%v", err)
	}
	b.prepare(o.Env, o.Master.host.inside(binary, "--config", b.ConfigPath(), "bridge")...)
	return b
}

// StartBridge starts a bridge and returns at once; see [Bridge.Ready].
func (l *Lab) StartBridge(o BridgeOptions) *Bridge {
	l.tb.Helper()
	b := l.NewBridge(o)
	b.Start()
	return b
}

// ConfigPath is the bridge's phoenix.yaml.
func (b *Bridge) ConfigPath() string { return filepath.Join(b.Dir, "phoenix.yaml") }

// Ready waits until the bridge, in this run of it, says that minions may come.
func (b *Bridge) Ready() {
	b.lab.tb.Helper()
	b.lab.Eventually(readyTimeout, b.Name+" is ready", func() (bool, string) {
		if !b.Alive() {
			b.lab.tb.Fatalf("%s ended at its start\n%s", b.Name, b.Tail())
		}
		var status struct {
			Bridge struct {
				Ready    bool         `json:"ready"` // not of a run before this one, as the row may be
				NotReady string       `json:"not_ready"`
				Master   fleet.Master `json:"master"`
				Bus      struct {
					Connected bool `json:"connected"`
				} `json:"bus"`
			} `json:"bridge"`
		}
		// A bridge that has just begun has no store yet, and then this is an error.
		out, stderr, code := b.Try("status", "--json")
		if code != 0 {
			return false, stderr
		}
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			b.lab.tb.Fatalf("read status: %v: %s", err, out)
		}
		if now := status.Bridge; now.Bus.Connected && now.Ready {
			return true, ""
		}
		return false, fmt.Sprintf("%+v", status)
	})
}

// Phoenix runs a command with the bridge's configuration, and returns what it
// printed. The test fails if the command does.
func (b *Bridge) Phoenix(args ...string) string {
	b.lab.tb.Helper()
	out, stderr, code := b.Try(args...)
	if code != 0 {
		b.lab.tb.Fatalf("phoenix %s: exit %d\n%s%s", strings.Join(args, " "), code, out, stderr)
	}
	return out
}

// Try is Phoenix for a command that may fail. Its code is -1 if it was killed
// for taking too long.
func (b *Bridge) Try(args ...string) (out, stderr string, code int) {
	b.lab.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cliTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.binary, append([]string{"--config", b.ConfigPath()}, args...)...)
	cmd.Env = append(append(os.Environ(), b.vars...), mark+"="+b.Dir+"/")
	var stdout, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.lab.tb.Fatalf("phoenix %s: %v", strings.Join(args, " "), err)
	}
	return stdout.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// JSON runs a command with --json, and reads what it printed.
func (b *Bridge) JSON(into any, args ...string) {
	b.lab.tb.Helper()
	args = append(args, "--json")
	if err := decodeJSON(b.Phoenix(args...), into); err != nil {
		b.lab.tb.Fatalf("phoenix %s: %v", strings.Join(args, " "), err)
	}
}

// Minions are the rows of "phoenix minions list", by instance id.
func (b *Bridge) Minions() map[string]fleet.Minion {
	b.lab.tb.Helper()
	var rows []fleet.Minion
	b.JSON(&rows, "minions", "list")
	byID := make(map[string]fleet.Minion, len(rows))
	for _, row := range rows {
		byID[row.InstanceID] = row
	}
	return byID
}
