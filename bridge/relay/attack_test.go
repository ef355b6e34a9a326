package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines are what was decided, as the audit trail gets it.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(line))
	return len(line), nil
}

func (l *lines) with(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.all {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// TestG10_AttacksAreAudited: each connection that does not hold the masters' key has one
// line in the trail, a flood some, and nothing is published.
func TestG10_AttacksAreAudited(t *testing.T) {
	trail := &lines{}
	w := &world{t: t, decisions: slog.New(slog.NewJSONHandler(trail, nil))}
	w.with("m1")
	m1 := w.sides[0]
	address := m1.Status().Listen
	job, err := message{Kind: kindJob, JID: jid(1), Load: asRaw(jobLoad(jid(1)))}.encode()
	if err != nil {
		t.Fatal(err)
	}
	strange, err := tlsConfig(strangers)
	if err != nil {
		t.Fatal(err)
	}
	strange.VerifyConnection = nil
	send := func(name string, speak func(conn net.Conn)) {
		before := trail.with("connection refused")
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		speak(conn)
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
		w.waitFor(name+" has a line in the trail", func() bool { return trail.with("connection refused") > before })
		if n := trail.with("connection refused"); n != before+1 {
			t.Errorf("%s: %d lines", name, n-before)
		}
	}
	send("garbage", func(conn net.Conn) { _, _ = conn.Write(bytes.Repeat([]byte("garbage "), 1000)) })
	send("no TLS", func(conn net.Conn) { _, _ = conn.Write(appendFrame(nil, job)) })
	send("no key", func(conn net.Conn) {
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
		_, _ = secure.Write(appendFrame(nil, job))
		_, _ = io.Copy(io.Discard, secure)
	})
	send("another key", func(conn net.Conn) {
		secure := tls.Client(conn, strange)
		_, _ = secure.Write(appendFrame(nil, job))
		_, _ = io.Copy(io.Discard, secure)
	})
	recorded := recordSession(t, address, job)
	w.waitFor("the recorded job is published", func() bool { return len(m1.seen(&m1.published)) == 1 })
	m1.memory.mu.Lock()
	clear(m1.memory.jobs) // whatever it remembers of that job
	m1.memory.mu.Unlock()
	send("a replayed session", func(conn net.Conn) { _, _ = conn.Write(recorded) })
	if got := m1.seen(&m1.published); len(got) != 1 {
		t.Errorf("published: %v", got)
	}
	for range 100 {
		if conn, err := net.Dial("tcp", address); err == nil {
			_, _ = conn.Write([]byte("flood\r\n\r\n"))
			conn.Close()
		}
	}
	w.waitFor("the flood is counted", func() bool { return m1.Status().Refused >= 100 })
	if n := trail.with("connection refused"); n > linesAtOnce+1 {
		t.Errorf("a flood wrote %d lines", n)
	}
}

// recordSession returns all that a master sends in a session in which it asks for a job.
func recordSession(t *testing.T, address string, job []byte) []byte {
	t.Helper()
	config, err := tlsConfig(ours)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	tape := &taped{Conn: conn}
	l, err := handshake(t.Context(), tape, config, false, message{Instance: "m2"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.conn.Write(appendFrame(nil, job)); err != nil {
		t.Fatal(err)
	}
	if m, err := l.read(); err != nil || m.State != statePublished {
		t.Fatalf("%+v, %v", m, err)
	}
	conn.Close()
	return tape.sent.Bytes()
}

type taped struct {
	net.Conn
	sent bytes.Buffer
}

func (t *taped) Write(b []byte) (int, error) {
	t.sent.Write(b)
	return t.Conn.Write(b)
}

// TestG10_ForgedJobIsAudited: an event of a job that the master did not publish has one
// line; one of a job that it published, none.
func TestG10_ForgedJobIsAudited(t *testing.T) {
	t.Parallel() // it waits
	trail := &lines{}
	w := &world{t: t, decisions: slog.New(slog.NewJSONHandler(trail, nil))}
	w.with("m1", "m2")
	m1 := w.sides[0]
	announce := func(n int) {
		m1.Event(eventOf("salt/job/"+jid(n)+"/new",
			map[string]any{"jid": jid(n), "fun": "cmd.run", "minions": []string{"web-1"}}))
	}
	announce(1)
	announce(2)
	m1.publishes(jobLoad(jid(2)))
	w.waitFor("the forged one has a line", func() bool { return trail.with("may have forged it") > 0 })
	if n := trail.with(jid(1)); n != 1 || trail.with("may have forged it") != 1 {
		t.Errorf("%d lines: %v", n, trail.all)
	}
	for n := range 1000 {
		announce(10 + n)
	}
	if n := m1.suspects.waiting.Load(); n > maxSuspects {
		t.Errorf("%d are waited for", n)
	}
}

// FuzzConnection: whatever comes over a connection, it is no master.
func FuzzConnection(f *testing.F) {
	config, err := tlsConfig(ours)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x03})
	f.Add(bytes.Repeat([]byte{0xff}, 1<<10))
	f.Fuzz(func(t *testing.T, data []byte) {
		client, server := net.Pipe()
		defer server.Close()
		go func() {
			go func() { _, _ = io.Copy(io.Discard, client) }()
			_, _ = client.Write(data)
			client.Close()
		}()
		if _, err := handshake(context.Background(), server, config, true, message{Instance: "m1"},
			time.Now); err == nil {
			t.Error("it is taken for a master")
		}
	})
}
