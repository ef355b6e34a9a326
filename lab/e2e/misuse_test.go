package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"phoenix/lab"
)

// nobody is a user without rights, on every Linux.
const nobody = 65534

// TestFaultIsOneLine: what is wrong before anything runs ends every command, the
// service too, with one line that says what to do, and an exit code of its kind.
func TestFaultIsOneLine(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	garbage := strings.Repeat("no database\n", 1000)
	for _, fault := range []struct {
		name    string
		file    string // added to phoenix.yaml
		command string
		prepare func()
		code    int
		says    []string
	}{
		{name: "key misspelt", file: "highstate: {leese: 30s}", command: "bridge", code: 2,
			says: []string{"phoenix.yaml", "line ", "highstate.leese"}},
		{name: "key misspelt, by hand", file: "admitt: bound", command: "status", code: 2, says: []string{"admitt"}},
		{name: "wrong type", file: "highstate: {attempts: many}", command: "bridge", code: 2,
			says: []string{"highstate.attempts", "many"}},
		{name: "two values that cannot be", file: "admit: all\nhighstate: {lease: 1s}", command: "bridge", code: 2,
			says: []string{"admit", "listed", "highstate.lease", "20s"}},
		{name: "no YAML", file: "highstate: {lease: [", command: "bridge", code: 2,
			says: []string{"phoenix.yaml", "line "}},
		{name: "no file", command: "--config /nowhere/phoenix.yaml bridge", code: 2,
			says: []string{"/nowhere/phoenix.yaml", "no such file"}},
		{name: "flag misspelt", command: "bridge --dry", code: 2, says: []string{"-dry"}},
		{name: "command misspelt", command: "minions lst", code: 2, says: []string{"lst", "phoenix minions --help"}},
		{name: "no id", command: "minions add", code: 2, says: []string{"phoenix minions add --help"}},
		{name: "no master configuration", file: "salt_config: /nowhere/master", command: "bridge", code: 2,
			says: []string{"salt_config", "/nowhere/master"}},
		{name: "master configuration that is no YAML", prepare: func() { h.write("master", "root_dir: [") },
			command: "bridge", code: 2, says: []string{"salt_config", "line 1"}},
		{name: "no folder for the store", file: "store: sqlite:/nowhere/fleet.db", command: "bridge", code: 3,
			says: []string{"mkdir -p /nowhere"}},
		{name: "store damaged", prepare: func() { h.write("fleet.db", garbage) }, command: "bridge", code: 3,
			says: []string{"damaged", "phoenix store restore FILE"}},
		{name: "store damaged, by hand", prepare: func() { h.write("fleet.db", garbage) }, command: "minions add web-1",
			code: 3, says: []string{"damaged", "phoenix store restore FILE"}},
		{name: "store cut to nothing", prepare: func() { h.write("fleet.db", "") }, command: "bridge", code: 3,
			says: []string{"empty", "phoenix store restore FILE"}},
		{name: "store of another user", prepare: func() { h.close("fleet.db") }, command: "bridge", code: 4,
			says: []string{"fleet.db", "run it as root, or as the owner of "}},
		{name: "keys of another user", prepare: func() { h.close("minions_pre") }, command: "keys list", code: 4,
			says: []string{"minions_pre", "run as root or as the master's user"}},
		{name: "no such minion", command: "minions retire web-9", code: 7, says: []string{"web-9", "--unknown"}},
		{name: "no such key", command: "keys accept --json web-9", code: 7, says: []string{"web-9", "no such key"}},
		{name: "no master", prepare: func() { h.write("minions_pre/web-1", lab.UnknownKey()) },
			command: "keys accept --json web-1", code: 5, says: []string{"is salt-master running?"}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			h.reset(t, fault.file)
			if fault.prepare != nil {
				fault.prepare()
			}
			var stdout, stderr bytes.Buffer
			code := h.run(t, &stdout, &stderr, strings.Fields(fault.command)...)
			said := stderr.String()
			if code != fault.code || stdout.Len() > 0 || strings.Count(said, "\n") != 1 ||
				!strings.HasPrefix(said, "phoenix: ") {
				t.Fatalf("exit %d, not %d\n%s%s", code, fault.code, &stdout, said)
			}
			for _, part := range fault.says {
				if !strings.Contains(said, part) {
					t.Errorf("it does not say %q:\n%s", part, said)
				}
			}
		})
	}
}

// host is a machine that has files for Phoenix, and no Salt. Phoenix runs there as
// a user who is not root: root is denied nothing.
type host struct {
	t      *testing.T
	dir    string
	binary string
}

func newHost(t *testing.T) *host {
	t.Helper()
	built, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	// Below a folder of the test's own the other user could not come.
	dir, err := os.MkdirTemp("", "phx-host-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &host{t: t, dir: dir, binary: filepath.Join(dir, "phoenix")}
	if err := errors.Join(copyFile(built, h.binary), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	return h
}

// reset makes the files anew: a store, an empty key store, and the configuration,
// which works, with more at its end or in the place of a key.
func (h *host) reset(t *testing.T, more string) {
	t.Helper()
	h.t = t
	for _, name := range []string{"fleet.db", "fleet.db-wal", "fleet.db-shm", "pki"} {
		if err := os.RemoveAll(filepath.Join(h.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range []string{"minions", "minions_pre", "minions_rejected", "minions_denied"} {
		path := filepath.Join(h.dir, "pki", folder)
		if err := errors.Join(os.MkdirAll(path, 0o777), os.Chmod(path, 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	h.write("master", fmt.Sprintf("root_dir: %s\npki_dir: pki\ncachedir: cache\nuser: root\n", h.dir))
	lines := []string{
		"store: sqlite:" + filepath.Join(h.dir, "fleet.db"), "salt_config: " + filepath.Join(h.dir, "master"),
		"socket: " + filepath.Join(h.dir, "bridge.sock"),
	}
	h.write("phoenix.yaml", strings.Join(lines, "\n"))
	var said bytes.Buffer
	if code := h.run(t, &said, &said, "minions", "add", "web-0"); code != 0 { // which makes the store
		t.Fatalf("without any fault: exit %d\n%s", code, &said)
	}
	lines = slices.DeleteFunc(lines, func(line string) bool { // a key stands there once
		key, _, _ := strings.Cut(line, ":")
		return strings.HasPrefix(more, key+":")
	})
	h.write("phoenix.yaml", strings.Join(append(lines, more), "\n")+"\n")
}

// path finds a file by its name, or a folder of the key store.
func (h *host) path(name string) string {
	if strings.HasPrefix(name, "minions") {
		name = filepath.Join("pki", name)
	}
	return filepath.Join(h.dir, name)
}

func (h *host) write(name, text string) {
	h.t.Helper()
	path := h.path(name)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o666), os.Chmod(path, 0o666)); err != nil {
		h.t.Fatal(err)
	}
}

// close takes everybody's rights to a file away, until the next reset.
func (h *host) close(name string) {
	h.t.Helper()
	path := h.path(name)
	h.t.Cleanup(func() { _ = os.Chmod(path, 0o777) })
	if err := os.Chmod(path, 0); err != nil {
		h.t.Fatal(err)
	}
}

// endsWithin: none of these waits for anything.
const endsWithin = 30 * time.Second

func (h *host) run(t *testing.T, stdout, stderr io.Writer, args ...string) (code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), endsWithin)
	defer cancel()
	cmd := h.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// command is phoenix on that host, as its user.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, h.binary, args...)
	cmd.Dir = h.dir
	cmd.Env = append(os.Environ(), "PHOENIX_CONFIG="+filepath.Join(h.dir, "phoenix.yaml"))
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o755)
}
