package api_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"phoenix/bridge/api"
)

// garbage is what no client of ours sends.
var garbage = []string{
	"\x00\xff garbage\r\n\r\n",
	"GET / HTTP/9.9\r\n\r\n",
	"POST /v1/look HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{]",
	"POST /v1/hints HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{\"x\":[1,2]}\n",
	"POST /v1/hints HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	"POST /v1/command HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n{\"args\":[]}",
	"GET /v1/" + strings.Repeat("x", 10<<10) + " HTTP/1.1\r\n\r\n",
	"DELETE /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
	"POST /v1/look HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
	"\r\n\r\n\r\n",
}

// send sends a request as it is, and returns the line of the answer's status, if
// there is one.
func send(t *testing.T, path, request string) string {
	conn, err := net.DialTimeout("unix", path, 10*time.Second)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, request) // the bridge may have hung up already
	_ = conn.(*net.UnixConn).CloseWrite()
	answer := make([]byte, 12)
	n, _ := io.ReadFull(conn, answer)
	return string(answer[:n])
}

// G7: 10,000 requests that mean nothing, of bodies larger than allowed too, change
// nothing, and take no memory that stays.
func TestG7_GarbageLeavesTheSocketServing(t *testing.T) {
	b := serve(t)
	before := memory()
	large := strings.Repeat("{\"ids\":[\"", 1<<20)
	oversized := []string{ // one says how large it is, the other does not
		fmt.Sprintf("POST /v1/look HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(large), large),
		"POST /v1/look HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" + large,
	}
	const requests, clients = 10_000, 8
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := c; i < requests; i += clients {
				request := garbage[i%len(garbage)]
				if i%500 < len(oversized) {
					request = oversized[i%500]
				}
				if got := send(t, b.path, request); got != "" && !strings.HasPrefix(got, "HTTP/1.1 4") &&
					!strings.HasPrefix(got, "HTTP/1.1 505") {
					t.Errorf("%.40q: answered %q", request, got)
				}
			}
		})
	}
	wg.Wait()
	if err := api.NewClient(b.path).Invalidate(t.Context(), []string{"a"}); err != nil {
		t.Error(err)
	}
	if got := <-b.looked; !slices.Equal(got, []string{"a"}) {
		t.Errorf("looked at %v", got)
	}
	if len(b.looked)+len(b.hinted) > 0 {
		t.Errorf("garbage was taken for hints: %d, %d", len(b.looked), len(b.hinted))
	}
	if grown := memory() - before; grown > 32<<20 {
		t.Errorf("%d MiB were taken and not given back", grown>>20)
	}
}

// memory is what is in use once all garbage is collected.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// G7: connections that say nothing, and more of them than there are places, keep a
// request waiting for some seconds only.
func TestG7_HalfOpenConnectionsEnd(t *testing.T) {
	b := serve(t)
	const many = 200
	for range many {
		conn, err := net.DialTimeout("unix", b.path, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "POST /v1/look HT"); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	var status struct{ Keys int }
	if err := api.NewClient(b.path).Status(t.Context(), &status); err != nil || status.Keys != 3 {
		t.Errorf("behind %d half-open connections: %+v, %v", many, status, err)
	}
	t.Logf("answered after %v behind %d half-open connections", time.Since(begun).Round(time.Millisecond), many)
}

// nobody is a user that is neither root nor any master's.
const nobody = 65534

// dialAsNobody connects as another user, in none of root's groups: the socket is
// given to one of them here. The kernel goes by the thread that connects.
func dialAsNobody(t *testing.T, path string) (net.Conn, error) {
	t.Helper()
	type dialled struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialled)
	go func() {
		runtime.LockOSThread()               // for good: the thread ends with the goroutine
		for _, become := range [][4]uintptr{ // the user last: nobody may set groups
			{syscall.SYS_SETGROUPS, 0, 0, 0},
			{syscall.SYS_SETRESGID, nobody, nobody, nobody},
			{syscall.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0)},
		} {
			if _, _, errno := syscall.RawSyscall(become[0], become[1], become[2], become[3]); errno != 0 {
				done <- dialled{err: errno}
				return
			}
		}
		conn, err := net.DialTimeout("unix", path, 10*time.Second)
		done <- dialled{conn, err}
	}()
	d := <-done
	return d.conn, d.err
}

// Other users are kept out by the socket's mode, and where that is open by name;
// as many of them as may come, they take no place of those who may ask.
func TestOtherUsersAreRefused(t *testing.T) {
	b := serve(t)
	info, err := os.Stat(b.path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if os.Geteuid() != 0 {
		t.Log("only the mode was looked at: none but root can become another user")
		return
	}
	if err := os.Chmod(strings.TrimSuffix(b.path, "/run/bridge.sock"), 0o755); err != nil {
		t.Fatal(err)
	}
	if conn, err := dialAsNobody(t, b.path); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Fatalf("connected to a socket of mode 0660: %v, %v", conn, err)
	}
	if err := os.Chmod(b.path, 0o666); err != nil {
		t.Fatal(err)
	}
	conn, err := dialAsNobody(t, b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, "POST /v1/look HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n{\"ids\":[1]}")
	answer, _ := io.ReadAll(conn)
	if said := string(answer); !strings.HasPrefix(said, "HTTP/1.1 403 ") ||
		!strings.Contains(said, "user 65534 may not ask") {
		t.Errorf("told %q", said)
	}
	for range 300 { // more than there are places of any kind
		silent, err := dialAsNobody(t, b.path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = silent.Close() })
	}
	begun := time.Now()
	if err := api.NewClient(b.path).Invalidate(t.Context(), []string{"a"}); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > time.Second { // a connection without a header lives for 2 s
		t.Errorf("waited %v behind those who may not ask", took)
	}
}
