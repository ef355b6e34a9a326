package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-zeromq/zmq4"

	"phoenix/bridge/event"
)

// patience bounds what must come soon, on a machine that is busy.
const patience = 20 * time.Second

// eventually waits until ok, looking often.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// master is a listening socket that speaks as the test says.
type master struct {
	t *testing.T
	net.Listener
}

func listen(t *testing.T, path string) *master {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &master{t, l}
}

func (m *master) accept() net.Conn {
	m.t.Helper()
	if err := m.Listener.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(patience)); err != nil {
		m.t.Fatal(err)
	}
	conn, err := m.Accept()
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { conn.Close() })
	return conn
}

func say(t *testing.T, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

// heard notes, in order, what a handler was told.
type heard struct {
	mu   sync.Mutex
	list []string
}

func (h *heard) Event(e event.Event) { h.note(string(e.Tag)) }
func (h *heard) Gap(reason string)   { h.note("gap: " + reason) }

func (h *heard) note(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, s)
}

func (h *heard) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.list...)
}

// expect waits for exactly these notes; each is a prefix.
func (h *heard) expect(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d notes", len(want)), func() bool { return len(h.all()) >= len(want) })
	got := h.all()
	for i := range got {
		if i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("heard %q, want %q", got, want)
		}
	}
}

// run starts a bus that ends with the test.
func run(t *testing.T, c Config, h Handler) *Bus {
	t.Helper()
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, h) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("Run goes on after its end")
		}
	})
	return b
}

func socket(t *testing.T) string { return filepath.Join(t.TempDir(), "pub.ipc") }

func TestConfig(t *testing.T) {
	for _, bad := range []Config{{}, {Path: "/x", Address: "127.0.0.1:1"}, {Address: "127.0.0.1"},
		{Path: "/x", MaxEvent: -1}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// Cut anywhere, the connection comes again: what was whole is delivered once,
// what was torn never.
func TestCutAnywhere(t *testing.T) {
	for _, f := range []Framing{Length, Bare} {
		next := framed(f, frameOf("torn"))
		for _, cut := range []int{0, 1, 3, 4, 5, len(next) / 2, len(next) - 1} {
			t.Run(fmt.Sprintf("%s/%d", f, cut), func(t *testing.T) {
				t.Parallel()
				m, h := listen(t, socket(t)), &heard{}
				b := run(t, Config{Path: m.Addr().String()}, h)
				first := m.accept()
				say(t, first, bytes.Join([][]byte{framed(f, frameOf("one")), framed(f, frameOf("two")), next[:cut]},
					nil))
				h.expect(t, "gap: connected", "one", "two")
				first.Close()
				say(t, m.accept(), framed(f, frameOf("three")))
				h.expect(t, "gap: connected", "one", "two", "gap: connected again", "three")
				if s := b.State(); s.Events != 3 || s.Gaps != 2 || s.Framing != f || s.Since.IsZero() ||
					s.Malformed != 0 {
					t.Errorf("state %+v", s)
				}
			})
		}
	}
}

// A master that says nothing is not left; one connection lasts.
func TestSilence(t *testing.T) {
	m, h := listen(t, socket(t)), &heard{}
	b := run(t, Config{Path: m.Addr().String()}, h)
	conn := m.accept()
	h.expect(t, "gap: connected")
	if s := b.State(); s.Framing != Unknown || s.Since.IsZero() || s.LastErr != nil {
		t.Errorf("state %+v", s)
	}
	for i := range 100 {
		say(t, conn, framed(Length, frameOf(fmt.Sprint(i))))
	}
	eventually(t, "100 events", func() bool { return b.State().Events == 100 })
	if s := b.State(); s.Gaps != 1 {
		t.Errorf("state %+v", s)
	}
}

// Run ends at once wherever it is, and leaves nothing behind.
func TestCancel(t *testing.T) {
	path := socket(t)
	m := listen(t, path)
	pub := zmq4.NewPub(t.Context())
	zmtpPath := socket(t)
	if err := pub.Listen("ipc://" + zmtpPath); err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	for name, test := range map[string]struct {
		path string
		says []byte
	}{
		"in the pause":         {path: path + ".none"},
		"before the first":     {path: path},
		"in a length":          {path, []byte{0, 0}},
		"in a frame":           {path, frameOf("x")[:9]},
		"in a greeting":        {path, []byte{0xff, 0, 0}},
		"subscribed to ZeroMQ": {path: zmtpPath},
	} {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			b, err := New(Config{Path: test.path})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- b.Run(ctx, &heard{}) }()
			if test.path == path {
				conn := m.accept()
				say(t, conn, test.says)
				defer conn.Close()
			}
			eventually(t, "a state", func() bool {
				s := b.State()
				return (!s.Since.IsZero() || s.LastErr != nil) && (test.path != zmtpPath || s.Framing == ZMTP)
			})
			began := time.Now()
			cancel()
			<-done
			if took := time.Since(began); took > time.Second {
				t.Errorf("it took %v", took)
			}
			if test.path != zmtpPath { // zmq4's own stay with its socket
				eventually(t, "no goroutine more", func() bool { return runtime.NumGoroutine() <= before })
			}
			if s := b.State(); !s.Since.IsZero() {
				t.Errorf("state %+v", s)
			}
		})
	}
}

// log counts what is logged.
type log struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *log) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.String()
}

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// A socket that is not there yet is waited for, and said once.
func TestAbsentThenThere(t *testing.T) {
	path, h, logged := socket(t), &heard{}, &log{}
	b := run(t, Config{Path: path, Logger: logged.logger()}, h)
	eventually(t, "an error", func() bool { return b.State().LastErr != nil })
	err := b.State().LastErr
	unreachable := (*UnreachableError)(nil)
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &unreachable) ||
		!strings.Contains(unreachable.Hint, "running") {
		t.Errorf("error %v", err)
	}
	tries := time.After(4 * firstPause) // some more of them
	<-tries
	if n := strings.Count(logged.text(), "\n"); n != 1 {
		t.Errorf("%d lines logged:\n%s", n, logged.text())
	}
	m := listen(t, path)
	say(t, m.accept(), frameOf("one"))
	h.expect(t, "gap: connected again", "one")
	if n := strings.Count(logged.text(), "\n"); n != 2 {
		t.Errorf("%d lines logged:\n%s", n, logged.text())
	}
}

// A socket file that nobody serves any more is another error.
func TestRefused(t *testing.T) {
	path := socket(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	b := run(t, Config{Path: path}, &heard{})
	eventually(t, "an error", func() bool { return errors.Is(b.State().LastErr, syscall.ECONNREFUSED) })
}

func TestPermissionDenied(t *testing.T) {
	m := listen(t, socket(t))
	if err := os.Chmod(m.Addr().String(), 0); err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{Path: m.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error)
	go func() {
		// Root may do anything, so this one thread becomes somebody else. It is
		// never unlocked, and ends with the goroutine.
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			if err := syscall.Setfsuid(65534); err != nil {
				refused <- err
				return
			}
		}
		_, err := b.dial(t.Context())
		refused <- err
	}()
	err = <-refused
	unreachable := (*UnreachableError)(nil)
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &unreachable) ||
		!strings.Contains(unreachable.Hint, "user") {
		t.Errorf("error %v", err)
	}
}

// A master killed with -9 may leave its publisher behind, which keeps our
// connection and says nothing, while the next master listens on the same path.
func TestReplacedSocket(t *testing.T) {
	path, h := socket(t), &heard{}
	old := listen(t, path)
	run(t, Config{Path: path}, h)
	say(t, old.accept(), frameOf("old"))
	h.expect(t, "gap: connected", "old")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	say(t, listen(t, path).accept(), framed(Length, frameOf("new"))) // and another Salt, at that
	h.expect(t, "gap: connected", "old", "gap: connected again: read event bus "+path+": another master", "new")
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m, h := &master{t, l}, &heard{}
	run(t, Config{Address: l.Addr().String()}, h)
	say(t, m.accept(), frameOf("one"))
	h.expect(t, "gap: connected", "one")
}

// A master before Salt 2015.8 has a ZeroMQ PUB socket, and bare bodies.
func TestZeroMQ(t *testing.T) {
	path, h := socket(t), &heard{}
	pub := zmq4.NewPub(t.Context())
	if err := pub.Listen("ipc://" + path); err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	b := run(t, Config{Path: path, MaxEvent: 1000}, h)
	eventually(t, "an event", func() bool {
		if err := pub.Send(zmq4.NewMsg([]byte("salt/auth\n\n\x80"))); err != nil {
			t.Fatal(err)
		}
		return b.State().Events > 0
	})
	if s := b.State(); s.Framing != ZMTP || h.all()[1] != "salt/auth" {
		t.Errorf("state %+v, heard %q", s, h.all())
	}
	if err := pub.Send(zmq4.NewMsg(make([]byte, 1001))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another connection", func() bool { return b.State().Gaps > 1 })
	if err := b.State().LastErr; !strings.Contains(err.Error(), "limit") {
		t.Error(err)
	}
}

// Peers that are no event bus, or announce too much: left, and tried again.
func TestWrongPeers(t *testing.T) {
	for name, says := range map[string][]byte{
		"another protocol":     []byte("\xa4text"),
		"HTTP":                 []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"a length over 16 MiB": {1, 0, 0, 1},
		"msgpack over 16 MiB":  []byte("\x82\xa4head\x80\xa4body\xc6\x7f\xff\xff\xff"),
		"a ZeroMQ frame of 2^62": append(append([]byte{0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0, 'N', 'U', 'L', 'L'},
			make([]byte, 48)...), 2, 0x40, 0, 0, 0, 0, 0, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, h := listen(t, socket(t)), &heard{}
			b := run(t, Config{Path: m.Addr().String()}, h)
			say(t, m.accept(), says)
			say(t, m.accept(), frameOf("one"))
			h.expect(t, "gap: connected", "gap: connected again", "one")
			if b.State().LastErr == nil {
				t.Error("no error")
			}
		})
	}
}

// An event that cannot be read is left out; those around it are not, and the
// connection stays.
func TestMalformedEvent(t *testing.T) {
	m, h, logged := listen(t, socket(t)), &heard{}, &log{}
	b := run(t, Config{Path: m.Addr().String(), Logger: logged.logger()}, h)
	conn := m.accept()
	for range 3 {
		say(t, conn, bytes.Join([][]byte{frameOf("good"), {0x80}, []byte("\x81\xa4body\xa5notag")}, nil))
	}
	h.expect(t, "gap: connected", "good", "good", "good")
	eventually(t, "all counted", func() bool { return b.State().Malformed == 6 })
	if n := strings.Count(logged.text(), "event dropped"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// slow takes its time with the first event.
type slow struct {
	heard
	until chan struct{}
}

func (s *slow) Event(e event.Event) {
	<-s.until
	s.heard.Event(e)
}

// While a handler is slow nothing piles up here; the master cuts the connection
// in the end, and the gap is told.
func TestSlowHandler(t *testing.T) {
	m, h := listen(t, socket(t)), &slow{until: make(chan struct{})}
	b := run(t, Config{Path: m.Addr().String()}, h)
	conn := m.accept()
	frame := framed(Length, append([]byte("\x81\xa4body\xc5\x10\x04x\n\n"), make([]byte, 4097)...))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	sent := uint64(0)
	for { // as Salt does after publish_drain_timeout
		if err := conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(frame); err != nil {
			break
		}
		sent++
	}
	runtime.ReadMemStats(&after)
	conn.Close()
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes allocated while the handler was slow", grown)
	}
	close(h.until)
	say(t, m.accept(), framed(Length, frameOf("later")))
	eventually(t, "the event after the gap", func() bool { return b.State().Events == sent+1 })
	if got := h.all(); !strings.HasPrefix(got[len(got)-2], "gap: connected again") || b.State().Malformed != 0 {
		t.Errorf("heard %q, state %+v", got[len(got)-2:], b.State())
	}
}
