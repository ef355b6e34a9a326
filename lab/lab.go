package lab

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/lab/needs"
)

// TB is what the lab needs of a test. *testing.T has it, and so has the demo.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
	Failed() bool
}

// Lab is one set of masters, minions and bridges that know of each other. Its
// methods are for one goroutine, the test's.
type Lab struct {
	tb  TB
	dir string
	net string // "127.x.y.": addresses of this lab only

	// All masters of a lab use the same ports on their own addresses, as they
	// would on their own machines.
	PublishPort, RetPort int

	hosts int            // addresses given out
	made  map[string]int // processes made, by kind
}

// maxDir keeps Unix sockets within the 107 bytes that the kernel allows: the
// longest that Salt makes below it takes some 70.
const maxDir = 32

// New makes an empty lab, which ends with tb.
func New(tb TB) *Lab {
	tb.Helper()
	if t, is := tb.(testing.TB); is {
		needs.More(t, "real masters and minions")
	}
	parent := os.TempDir()
	if len(parent) > maxDir {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "phx-")
	if err != nil {
		tb.Fatalf("make lab: %v", err)
	}
	l := &Lab{
		tb: tb, dir: dir, made: map[string]int{},
		net: fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256)),
	}
	if err := adoptOrphans(); err != nil {
		tb.Fatalf("make lab: %v", err)
	}
	stopWatchdog, err := watch(dir)
	if err != nil {
		tb.Fatalf("start watchdog of lab: %v", err)
	}
	tb.Cleanup(stopWatchdog)
	if l.PublishPort, err = freePort(); err == nil {
		l.RetPort, err = freePort()
	}
	if err != nil {
		tb.Fatalf("find free port: %v", err)
	}
	return l
}

// In makes tb the test that failures are told to, and that processes started
// from now on end with. It holds until tb ends: for subtests that share a
// master.
func (l *Lab) In(tb TB) {
	before := l.tb
	l.tb = tb
	tb.Cleanup(func() { l.tb = before })
}

// Dir is the lab's folder, for what a test has to keep beside the processes.
func (l *Lab) Dir() string { return l.dir }

// Addr is a loopback address that nobody else uses.
func (l *Lab) Addr() string {
	l.hosts++
	return fmt.Sprintf("%s%d", l.net, l.hosts)
}

// Root is the repository's root, found from the working folder upwards.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module phoenix\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find repository: no go.mod of module phoenix above the working folder")
		}
	}
}

// freePort asks the kernel for a port that no address of this machine uses.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
