package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"phoenix/bridge/salt"
)

// listen returns a port of an address on which somebody listens.
func listen(t *testing.T, address string) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// greet is listen with the greeting of ZeroMQ, as each of its sockets sends it.
func greet(t *testing.T, address string) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte{zmtpSignature, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f})
			defer conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// The kernel's own table of connections, of this very process.
// apart is the last port of listenApart.
var apart atomic.Int32

// listenApart returns a port of an address on which somebody listens, and to whose number
// nobody else connects: Linux gives out ports from 32768 on, the same at several addresses.
func listenApart(t *testing.T, address string) int {
	t.Helper()
	apart.CompareAndSwap(0, int32(20000+os.Getpid()%10000))
	for range 1000 {
		port := int(apart.Add(1))
		if l, err := net.Listen("tcp", net.JoinHostPort(address, fmt.Sprint(port))); err == nil {
			t.Cleanup(func() { l.Close() })
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func TestConnectionsOfTheProcess(t *testing.T) {
	for _, address := range []string{"127.0.0.3", "::1"} {
		port := listenApart(t, address)
		conn, err := net.Dial("tcp", net.JoinHostPort(address, fmt.Sprint(port)))
		if err != nil {
			t.Fatal(err)
		}
		want := []netip.Addr{netip.MustParseAddr(address)}
		for name, pid := range map[string]int{"this process": os.Getpid(), "the whole machine": 0,
			"no such process": 1 << 30} {
			if got, err := publishers("/proc", pid, []int{port}); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: connected to %v, %v, want %v", name, got, err, want)
			}
		}
		// Another minion on the machine is not this one.
		other := exec.Command("sleep", "60")
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		if got, err := publishers("/proc", other.Process.Pid, []int{port}); err != nil || len(got) > 0 {
			t.Errorf("another process: connected to %v, %v", got, err)
		}
		_ = other.Process.Kill()
		_ = other.Wait()
		conn.Close()
		if got, err := publishers("/proc", os.Getpid(), []int{port}); err != nil || len(got) > 0 {
			t.Errorf("after it was closed: connected to %v, %v", got, err)
		}
	}
}

func TestKernelTable(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1199 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22001 1
   1: 0100007F:D431 0300007F:1199 01 00000000:00000000 00:00000000 00000000     0        0 22002 1
   2: 0100007F:D432 0300007F:1199 08 00000000:00000000 00:00000000 00000000     0        0 22003 1
   3: 00000000000000000000000001000000:D433 000000000000000000000000010000FD:1199 01 00000000:00000000 00:00000000 00000000 0 0 22004 1
   4: 0000000000000000FFFF00000100007F:D433 0000000000000000FFFF00000400007F:1199 01 00000000:00000000 00:00000000 00000000 0 0 22005 1
`
	got, err := connections(strings.NewReader(table))
	want := []connection{
		{netip.MustParseAddrPort("127.0.0.3:4505"), "22002"},
		{netip.MustParseAddrPort("[::fd00:1]:4505"), "22004"},
		{netip.MustParseAddrPort("127.0.0.4:4505"), "22005"}, // IPv4 on an IPv6 socket
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := connections(strings.NewReader("0: x y:z 01 a b c d e f g h\n")); err == nil {
		t.Error("took nonsense for a table")
	}
}

// newLocal returns a minion's machine in a folder, with /proc beside it.
func newLocal(t *testing.T, ports ...int) *Local {
	t.Helper()
	dir := t.TempDir()
	l, err := NewLocal(salt.MinionConfig{CacheDir: dir, PKIDir: dir, PIDFile: filepath.Join(dir, "pid")},
		[]string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	if len(ports) == 2 {
		l.minion.PublishPort, l.minion.MasterPort = ports[0], ports[1]
	}
	return l
}

func TestAnswersNeedsBothPorts(t *testing.T) {
	t.Parallel() // it waits
	at := Master{Address: "127.0.0.4"}
	one, two, silent := greet(t, at.Address), greet(t, at.Address), listen(t, at.Address)
	if l := newLocal(t, one, two); !l.Answers(t.Context(), at) {
		t.Error("both greet, and it does not answer")
	}
	for _, ports := range [][]int{{one, 1}, {1, two}, {1, 2}, {one, silent}, {silent, two}} {
		if l := newLocal(t, ports...); l.Answers(t.Context(), at) {
			t.Errorf("answers on %v", ports)
		}
	}
	at.Ports = Ports{one, two} // as its row says
	if l := newLocal(t, 1, 2); !l.Answers(t.Context(), at) {
		t.Error("is asked on the ports of the minion's own configuration")
	}
	l := newLocal(t, one, silent)
	if l.zeromq = false; !l.Answers(t.Context(), Master{Address: at.Address}) {
		t.Error("a transport without a greeting is waited for")
	}
	if l.tcp = true; l.Answers(t.Context(), Master{Address: at.Address}) {
		t.Error("with transport tcp, a port that takes connections and says nothing counts as an answer")
	}
}

// Names are looked up, so that a master which is listed by its name is known by
// its connection.
func TestConnectedByName(t *testing.T) {
	port := listenApart(t, "127.0.0.1")
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l := newLocal(t, port, port)
	// Without a pidfile the connections of the whole machine count, but not for a minion
	// that has authenticated with no master yet: they are another's.
	if got, err := l.Connected(t.Context(), nil); err != nil || len(got) > 0 {
		t.Errorf("a minion that has never run: connected to %v, %v", got, err)
	}
	put(t, filepath.Join(l.minion.PKIDir, "minion_master.pub"), "a key")
	for _, listed := range [][]string{{"localhost"}, {"127.0.0.1"}, {"10.0.0.1", "127.0.0.1"}} {
		var masters []Master
		for _, address := range listed {
			masters = append(masters, Master{Address: address})
		}
		got, err := l.Connected(t.Context(), masters)
		if want := listed[len(listed)-1:]; err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: connected to %v, %v", listed, got, err)
		}
	}
}

// What real Salt packs, by Salt's own hand.
const packJobs = `
import sys, os
import salt.payload
base, live = sys.argv[1], int(sys.argv[2])
def job(name, **data):
    with open(os.path.join(base, "proc", name), "w+b") as f:
        f.write(salt.payload.dumps(data))
job("20260101000000000001", pid=live, fun="state.highstate", arg=[], jid="20260101000000000001", ret="", tgt="*", user="root")
job("20260101000000000002", pid=live, fun=["test.ping", "cmd.run"], arg=[[], ["x" * 100000]], jid="2")
job("20260101000000000003", pid=live, fun="status.master", schedule="__master_alive_10.0.0.1", jid="3")
job("20260101000000000004", pid=live, fun="test.ping", schedule="daily", jid="4")
job("20260101000000000005", pid=live + 1, fun="test.ping", jid="5")
job("20260101000000000006", pid=live + 2, fun="test.ping", jid="6")
`

func TestJobsThatRun(t *testing.T) {
	l := newLocal(t)
	if jobs, err := l.Jobs(); err != nil || len(jobs) > 0 {
		t.Errorf("a minion that never ran: %v, %v", jobs, err)
	}
	l.proc = t.TempDir()
	const live = 100
	put(t, filepath.Join(l.proc, "100", "cmdline"), "/usr/bin/python3\x00/usr/bin/salt-minion\x00")
	put(t, filepath.Join(l.proc, "102", "cmdline"), "") // ended, not waited for
	dir := filepath.Join(l.minion.CacheDir, "proc")
	left := filepath.Join(dir, "20260101000000000009") // is left over
	put(t, left, "")
	if err := os.Chtimes(left, time.Time{}, time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	python(t, packJobs, l.minion.CacheDir, fmt.Sprint(live))
	// Last, since they count as left over when they are some seconds old.
	put(t, filepath.Join(dir, "20260101000000000007"), "")         // is being made
	put(t, filepath.Join(dir, "20260101000000000008"), "\x83\xa3") // is being written
	jobs, err := l.Jobs()
	got := fmt.Sprint(jobs)
	const want = "[state.highstate 20260101000000000001 test.ping,cmd.run 20260101000000000002 test.ping 20260101000000000004  20260101000000000007  20260101000000000008]"
	if err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestPIDFileThatIsLeftOver(t *testing.T) {
	l := newLocal(t)
	l.proc = t.TempDir()
	put(t, filepath.Join(l.proc, "7", "cmdline"), "salt-minion")
	put(t, filepath.Join(l.proc, "8", "cmdline"), "something else")
	for text, want := range map[string]int{"": 0, "7": 7, " 7\n": 7, "8": 0, "9": 0, "x": 0, "-7": 0} {
		put(t, l.minion.PIDFile, text)
		if got := l.pid(); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestKeys(t *testing.T) {
	l := newLocal(t)
	path := filepath.Join(l.minion.PKIDir, "minion_master.pub")
	if digest, err := l.TrustedKey(); digest != "" || err != nil {
		t.Errorf("met a master: %q, %v", digest, err)
	}
	put(t, path, "")
	if digest, err := l.TrustedKey(); digest != "" || err != nil {
		t.Errorf("an empty file: %q, %v", digest, err)
	}
	put(t, path, "no key")
	if _, err := l.TrustedKey(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no key: %v", err)
	}
}

func TestRestartCommand(t *testing.T) {
	l := newLocal(t)
	if err := l.Restart(t.Context()); err != nil {
		t.Error(err)
	}
	l.command = []string{"sh", "-c", "echo no such unit; exit 5"}
	if err := l.Restart(t.Context()); err == nil || !strings.Contains(err.Error(), "no such unit") ||
		!strings.Contains(err.Error(), "agent.restart") {
		t.Errorf("a command that fails: %v", err)
	}
	l.command = []string{"/no/such/command"}
	if err := l.Restart(t.Context()); err == nil {
		t.Error("a command that is not there")
	}
	// An agent that is told to stop does not leave a minion stopped half way.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := filepath.Join(t.TempDir(), "done")
	l.command = []string{"sh", "-c", "echo > " + done}
	if err := l.Restart(ctx); err != nil || !exists(done) {
		t.Errorf("told to stop: %v", err)
	}
	if _, err := NewLocal(salt.MinionConfig{}, nil); err == nil {
		t.Error("no command will do")
	}
}

// A drop-in that nobody may read is no list that is empty.
func TestUnreadable(t *testing.T) {
	d, _ := newTree(t)
	if err := os.Mkdir(d.Path(), 0o755); err != nil {
		t.Fatal(err)
	}
	if listed, err := d.Read(); err == nil {
		t.Errorf("lists %v", listed)
	}
	if wrote, err := d.Write(newList, Running{}, ""); err == nil {
		t.Errorf("wrote %v", wrote)
	}
}
