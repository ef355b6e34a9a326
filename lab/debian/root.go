// Package debian runs a Debian of its own, with systemd as its first process, for
// tests of what is installed on a machine. It is a root over one that debootstrap made
// once, and systemd-nspawn's container; the network is this machine's.
//
// It needs root, debootstrap and systemd-container.
package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"phoenix/lab"
)

const (
	// bootWithin: some 3 s, many times that on a busy machine.
	bootWithin = 2 * time.Minute
	// runWithin bounds one command: installing Salt from PyPI takes the longest.
	runWithin = 8 * time.Minute
	// endWithin: it is killed, and has nothing to save.
	endWithin = 30 * time.Second
)

// Root is one Debian that runs.
type Root struct {
	Dir string // of its files, as this machine sees them

	t      testing.TB
	leader int // its first process
}

// Start boots a Debian that ends with the test. Folders of this machine appear at the
// same paths in it.
func Start(t testing.TB, folders ...string) *Root {
	t.Helper()
	return start(t, "", "", folders)
}

// StartRPM boots what is nearest to a system of rpm packages: a Debian with rpm and dnf
// in the place of apt. dpkg stays: Salt's grains ask it on a Debian. Amazon Linux itself
// cannot be had from Debian's packages: its Python, its SELinux and its repositories are
// not here.
func StartRPM(t testing.TB, folders ...string) *Root {
	t.Helper()
	r := start(t, "-rpm", ",rpm,dnf", folders)
	r.Run("rm /usr/bin/apt-get /usr/bin/apt && mkdir -p /etc/yum.repos.d")
	return r
}

func start(t testing.TB, name, further string, folders []string) *Root {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("start Debian: it needs root")
	}
	base, err := install(name, further)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := &Root{Dir: filepath.Join(dir, "root"), t: t}
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{r.Dir, upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount("overlay", r.Dir, "overlay", 0,
		"lowerdir="+base+",upperdir="+upper+",workdir="+work); err != nil {
		t.Fatalf("mount root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(r.Dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount root: %v", err)
		}
	})
	r.boot(folders)
	return r
}

func (r *Root) boot(folders []string) {
	r.t.Helper()
	args := []string{"--quiet", "--register=no", "--link-journal=no", "--resolv-conf=copy-host", "--directory=" + r.Dir}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		args = append(args, "--keep-unit") // there is nobody to give it one
	}
	for _, folder := range folders {
		args = append(args, "--bind="+folder)
	}
	// nspawn in a namespace of its own: whatever ends it, ends what it started. Alone,
	// killed with -9, it leaves its systemd behind (252, seen).
	cmd := exec.Command("unshare",
		append([]string{"--pid", "--fork", "--kill-child", "--mount-proc", "--", "systemd-nspawn"},
			append(args, "--boot")...)...)
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	// Should the test die first, it is not left behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		r.t.Fatalf("start Debian: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	r.t.Cleanup(func() {
		if r.t.Failed() && r.leader != 0 {
			out, _ := r.Try("journalctl --no-pager --quiet -n 60 -o short-precise")
			r.t.Logf("--- journal\n%s", out)
		}
		if r.leader != 0 {
			_ = syscall.Kill(r.leader, syscall.SIGKILL) // and with it all of its namespace
		} else {
			_ = cmd.Process.Kill()
		}
		select {
		case <-ended:
		case <-time.After(endWithin):
			r.t.Errorf("Debian did not end")
		}
	})
	lab.Eventually(r.t, bootWithin, "Debian has booted", func() (bool, string) {
		select {
		case <-ended:
			r.t.Fatalf("start Debian: systemd-nspawn ended\n%s", tail(console.String()))
		default:
		}
		if r.leader = child(child(cmd.Process.Pid)); r.leader == 0 {
			return false, "no first process"
		}
		out, code := r.Try("systemctl is-system-running")
		state := strings.TrimSpace(out)
		return state == "running" || state == "degraded", fmt.Sprintf("%q, exit %d", state, code)
	})
}

// child is a process's only child; 0 if it has none yet, or is none itself.
func child(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	id, _ := strconv.Atoi(first)
	return id
}

// Run runs a script of bash in it as root, with variables, and gives what it printed.
// The test fails if the script does.
func (r *Root) Run(script string, env ...string) string {
	r.t.Helper()
	out, code := r.Try(script, env...)
	if code != 0 {
		r.t.Fatalf("%s: exit %d\n%s", script, code, tail(out))
	}
	return out
}

// Try is Run for a script that may fail. Its code is -1 if it took too long.
func (r *Root) Try(script string, env ...string) (out string, code int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "--target", strconv.Itoa(r.leader), "--mount", "--uts", "--ipc", "--pid",
		"--root", "--wd",
		"env", "-i", "HOME=/root", "LC_ALL=C.UTF-8",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.Args = append(append(cmd.Args, env...), "bash", "-c", script)
	cmd.WaitDelay = time.Second // what a script left running keeps its output
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		r.t.Fatalf("%s: %v", script, err)
	}
	return text.String(), cmd.ProcessState.ExitCode()
}

// Put writes a file in it.
func (r *Root) Put(path, text string) {
	r.t.Helper()
	path = filepath.Join(r.Dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}
