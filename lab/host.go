package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// isolated says to a process that it has a network of its own.
const isolated = "PHOENIX_LAB_ISOLATED"

// nowhere is a hardware address that nobody has: what is sent to it is lost, and
// nobody is told.
const nowhere = "02:00:00:00:00:01"

// Isolate runs this program once more with these arguments, in a network
// namespace of its own, where [Lab.NewHost] works, and waits for it. child is true
// in there. It needs iproute2, and root, or a kernel that lets everybody be root in
// a namespace.
func Isolate(args ...string) (child bool, err error) {
	if os.Getenv(isolated) != "" {
		return true, run("ip", "link", "set", "lo", "up")
	}
	for command, debian := range map[string]string{"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux"} {
		if _, err := exec.LookPath(command); err != nil {
			return false, fmt.Errorf("network namespaces need %s (on Debian: apt install %s)", command, debian)
		}
	}
	// The child dies with this thread, which is to be this process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), isolated+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("make network namespace: %w (run it as root)", err)
	}
	return false, cmd.Wait()
}

// Host is a machine for a master: a network namespace, with a cable to the one
// where minions, agents and the test are.
type Host struct {
	*Process
	Addr string

	near, cable string // the address and the name of the cable's end on the test's side
}

// NewHost makes a host, which ends with the test.
func (l *Lab) NewHost() *Host {
	l.tb.Helper()
	h := &Host{Process: l.process("host")}
	n := l.made["host"]
	h.cable, h.near, h.Addr = fmt.Sprintf("phx%d", n), fmt.Sprintf("10.77.%d.1", n), fmt.Sprintf("10.77.%d.2", n)
	h.prepare(nil, "unshare", "--net", "sleep", "infinity")
	h.Start()
	l.Eventually(readyTimeout, h.Name+" has a network of its own", func() (bool, string) {
		own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", h.pid()))
		ours, _ := os.Readlink("/proc/self/ns/net")
		return err == nil && own != ours, fmt.Sprint(err)
	})
	for _, command := range [][]string{
		{"ip", "link", "add", h.cable, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(h.pid())},
		{"ip", "addr", "add", h.near + "/30", "dev", h.cable},
		{"ip", "link", "set", h.cable, "up"},
		h.inside("ip", "addr", "add", h.Addr+"/30", "dev", "eth0"),
		h.inside("ip", "link", "set", "eth0", "up"),
		h.inside("ip", "link", "set", "lo", "up"),
	} {
		if err := run(command...); err != nil {
			l.tb.Fatalf("make host: %v", err)
		}
	}
	return h
}

// Vanish loses each packet from and to the host from now on: no connection is
// closed, nothing is refused, nobody is told.
func (h *Host) Vanish() {
	h.lab.tb.Helper()
	h.neighbours("replace", "lladdr", nowhere, "nud", "permanent")
}

// Return ends what Vanish began.
func (h *Host) Return() {
	h.lab.tb.Helper()
	h.neighbours("del")
}

func (h *Host) neighbours(verb string, how ...string) {
	h.lab.tb.Helper()
	near := append([]string{"ip", "neigh", verb, h.Addr, "dev", h.cable}, how...)
	far := append([]string{"ip", "neigh", verb, h.near, "dev", "eth0"}, how...)
	if err := errors.Join(run(near...), run(h.inside(far...)...)); err != nil {
		h.lab.tb.Fatalf("%s of %s: %v", verb, h.Name, err)
	}
}

// inside is a command line that runs on the host; without a host, as it is.
func (h *Host) inside(command ...string) []string {
	if h == nil {
		return command
	}
	return append([]string{"nsenter", "--target", strconv.Itoa(h.pid()), "--net"}, command...)
}

func (h *Host) pid() int {
	cmd, _ := h.running()
	return cmd.Process.Pid
}

// run runs a command that is done at once.
func run(command ...string) error {
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
