package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// eventBus speaks as a master of Salt 3007 does, and says what the test wants.
type eventBus struct {
	t *testing.T
	net.Listener
	cfg string // a master's, that leads there
}

func newEventBus(t *testing.T) *eventBus {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &eventBus{t: t, cfg: filepath.Join(dir, "master")}
	if err := os.WriteFile(b.cfg, []byte("sock_dir: "+dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b.Listener, err = net.Listen("unix", filepath.Join(dir, "master_event_pub.ipc")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func frame(t *testing.T, tag string, data any) []byte {
	t.Helper()
	payload, err := msgpack.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	out, err := msgpack.Marshal(map[string]any{"head": map[string]any{},
		"body": append([]byte(tag+"\n\n"), payload...)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// say accepts one connection, and says events on it.
func (b *eventBus) say(frames ...[]byte) net.Conn {
	conn, err := b.Accept()
	if err != nil {
		b.t.Error(err)
		return nil
	}
	for _, f := range frames {
		_, _ = conn.Write(f) // the reader may have heard enough
	}
	return conn
}

func (b *eventBus) command(args ...string) []string {
	return append([]string{"phoenix", "events", "--salt-config", b.cfg}, args...)
}

func TestEventsForPeopleAndPrograms(t *testing.T) {
	b := newEventBus(t)
	said := [][]byte{
		frame(t, "salt/auth", map[string]any{"id": "web-1", "act": "pend", "_stamp": "2026-01-01T00:00:00"}),
		frame(t, "salt/job/1/ret/web-1",
			map[any]any{"id": "web-1", "raw": []byte{0xff, 0}, 7: map[string]any{"<a>": nil}}),
		frame(t, "other/\x1b[2J", map[string]any{"id": "\u009b2J"}),
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--count=1"}, "salt/auth\t{\n    \"_stamp\": \"2026-01-01T00:00:00\",\n    \"act\": \"pend\",\n    \"id\": \"web-1\"\n}\n"},
		{[]string{"--count=1", "--tag=salt/job/*", "--json"},
			`{"tag":"salt/job/1/ret/web-1","data":{"7":{"<a>":null},"id":"web-1","raw":"/wA="}}` + "\n"},
		{[]string{"--count=1", "--tag", "other/*"}, "other/\ufffd[2J\t{\n    \"id\": \"\ufffd2J\"\n}\n"},
	} {
		var speaking sync.WaitGroup
		speaking.Go(func() {
			if conn := b.say(said...); conn != nil {
				_, _ = io.Copy(io.Discard, conn)
			}
		})
		var out, errs bytes.Buffer
		if code := run(t.Context(), b.command(test.args...), &out, &errs); code != exitOK ||
			out.String() != test.want || errs.Len() > 0 {
			t.Errorf("%v: exit %d\n%q, not\n%q\n%s", test.args, code, &out, test.want, &errs)
		}
		speaking.Wait()
	}
}

// A gap is told, and an end before enough was heard fails.
func TestEventsTellGapsAndTooFew(t *testing.T) {
	b := newEventBus(t)
	var speaking sync.WaitGroup
	speaking.Go(func() {
		for _, tag := range []string{"a", "b"} {
			if conn := b.say(frame(t, tag, map[string]any{}), []byte{0x82}); conn != nil {
				_ = conn.Close() // as a master that restarts
			}
		}
		conn, err := b.Accept()
		if err == nil {
			_, _ = io.Copy(io.Discard, conn)
		}
	})
	var out, errs bytes.Buffer
	code := run(t.Context(), b.command("--json", "--count=3", "--timeout=3s"), &out, &errs)
	_ = b.Close()
	speaking.Wait()
	if want := `{"tag":"a","data":{}}` + "\n" + `{"tag":"b","data":{}}` + "\n"; code != exitFailed ||
		out.String() != want {
		t.Errorf("exit %d: %q, not %q", code, &out, want)
	}
	for _, says := range []string{"note: events may have been missed: connected again",
		"phoenix: await events: 2 of 3 came within 3s\n"} {
		if !strings.Contains(errs.String(), says) {
			t.Errorf("it does not say %q:\n%s", says, &errs)
		}
	}
}

func TestEventsWithoutAMaster(t *testing.T) {
	b := newEventBus(t)
	_ = b.Close()
	var out, errs bytes.Buffer
	if code := run(t.Context(), b.command(), &out, &errs); code != exitNoMaster ||
		!strings.Contains(errs.String(), "is salt-master running") {
		t.Errorf("exit %d: %s", code, &errs)
	}
	if code := run(t.Context(), b.command("--count=-1"), &out, &errs); code != exitUsage {
		t.Errorf("exit %d: %s", code, &errs)
	}
}

// slow takes nothing until it is let.
type slow struct {
	let  chan struct{}
	once sync.Once
	got  chan struct{}
	bytes.Buffer
}

func (s *slow) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.got) })
	<-s.let
	return s.Buffer.Write(p)
}

// A terminal that stands still does not stall the bus: the master goes on saying,
// what does not fit is left out, and that is told.
func TestEventsDoNotStallTheBus(t *testing.T) {
	b := newEventBus(t)
	out := &slow{let: make(chan struct{}), got: make(chan struct{})}
	const more = 5000
	ctx, stop := context.WithCancel(t.Context())
	var speaking sync.WaitGroup
	speaking.Go(func() {
		conn := b.say(frame(t, "first", map[string]any{}))
		<-out.got // it is being printed, and nothing further is
		_ = conn.SetWriteDeadline(time.Now().Add(time.Minute))
		for i := range maxHeard + more {
			if _, err := conn.Write(frame(t, fmt.Sprint("n", i), map[string]any{"n": i})); err != nil {
				t.Errorf("the bus is stalled after %d events: %v", i, err)
				break
			}
		}
		_, _ = conn.Write(frame(t, "last", map[string]any{}))
		close(out.let)
		_, _ = io.Copy(io.Discard, conn)
	})
	var errs bytes.Buffer
	code := run(ctx, b.command("--json", "--count", fmt.Sprint(maxHeard+1)), out, &errs)
	stop()
	speaking.Wait()
	if code != exitOK {
		t.Errorf("exit %d: %s", code, &errs)
	}
	var first struct{ Tag string }
	if err := json.NewDecoder(&out.Buffer).Decode(&first); err != nil || first.Tag != "first" {
		t.Errorf("%+v, %v", first, err)
	}
	if !strings.Contains(errs.String(), "note: left out: ") {
		t.Errorf("it does not say what is left out: %q", &errs)
	}
}
