package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/api"
)

// bridge is what the tests' socket speaks for: it notes what it is told.
type bridge struct {
	path   string
	looked chan []string
	hinted chan string

	entered chan struct{} // where there is one, an operation sends here when it begins,
	hold    chan struct{} // and waits here before it ends
}

func serve(t *testing.T) *bridge {
	t.Helper()
	dir, err := os.MkdirTemp("", "api") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	b := &bridge{path: filepath.Join(dir, "run", "bridge.sock"), looked: make(chan []string, 100),
		hinted: make(chan string, 100)}
	l, err := api.Listen(b.path, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- api.Serve(ctx, l, api.Bridge{
			Invalidate: func(ids []string) { b.looked <- ids },
			Restore:    func(ids []string) { b.looked <- ids },
			Status:     func(all bool) any { return map[string]any{"keys": 3, "all": all} },
			Hint:       b.hint,
			Operate:    b.operate, Translate: translate,
			Release: func(context.Context) ([]string, error) { return nil, errors.New("nothing is held") },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bridge) hint(tag string, data map[string]any) error {
	if tag == "" {
		return errors.New("no tag")
	}
	b.hinted <- fmt.Sprint(tag, " ", data)
	return nil
}

func (b *bridge) operate(_ context.Context, r api.Request) (api.Answer, error) {
	if r.Operation == "" {
		return api.Answer{}, errors.New("no operation")
	}
	if b.entered != nil {
		b.entered <- struct{}{}
		<-b.hold
	}
	return api.Answer{Code: 7, Answer: json.RawMessage(`[1]`), Error: r.Operation + string(r.Arguments)}, nil
}

func translate(args []string) (api.Request, error) {
	if len(args) == 0 {
		return api.Request{}, errors.New("no command")
	}
	return api.Request{Operation: args[0]}, nil
}

// ask sends one request, and returns its status and answer.
func (b *bridge) ask(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", b.path)
		}}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://bridge"+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text))
}

func TestLookAndStatus(t *testing.T) {
	b := serve(t)
	client := api.NewClient(b.path)
	if err := client.Invalidate(t.Context(), []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	if got := <-b.looked; !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("looked at %v", got)
	}
	var status struct{ Keys int }
	if err := client.Status(t.Context(), &status); err != nil || status.Keys != 3 {
		t.Errorf("%+v, %v", status, err)
	}
}

// Each request is told what came of it, by status and in words.
func TestRequests(t *testing.T) {
	b := serve(t)
	for _, r := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "/v1/hints", `{"hints": [{"tag": "salt/auth", "data": {"id": "web-1"}}, {"tag": "x"}]}`, 204, ""},
		{"POST", "/v1/hints", `{"hints": [{"data": {}}, {"tag": "salt/key", "data": {"n": 7}}]}`, 400, "no tag"},
		{"POST", "/v1/hints", `{"hints": [{"tag": "x", "data": "web-1"}]}`, 400,
			"read request: json: cannot unmarshal"},
		{"POST", "/v1/hints", `{"hints": []} {}`, 400, "more than one JSON value"},
		{"POST", "/v1/command", `{"args": ["roster"]}`, 200, `{"code":7,"answer":[1],"error":"roster"}`},
		{"POST", "/v1/command", `{}`, 400, "no command"},
		{"POST", "/v1/operation", `{"operation": "keys.list"}`, 200, `{"code":7,"answer":[1],"error":"keys.list"}`},
		{"POST", "/v1/operation", `{"operation": "adopt", "arguments": {"dry_run": true}}`, 200,
			`adopt{\"dry_run\": true}`},
		{"POST", "/v1/operation", `{}`, 400, "no operation"},
		{"POST", "/v1/operation", `{"operation": "adopt", "config": "x"}`, 400, `unknown field "config"`},
		{"POST", "/v1/release", ``, 409, "nothing is held"},
		{"POST", "/v1/look", `{"ids": "` + strings.Repeat("a", 5<<20) + `"}`, 413, "too large"},
		{"GET", "/v1/hints", ``, 405, ""},
		{"GET", "/v2/status", ``, 404, ""},
	} {
		status, said := b.ask(t, r.method, r.path, r.body)
		if status != r.status || !strings.Contains(said, r.says) {
			t.Errorf("%s %s %.60s: %d %s", r.method, r.path, r.body, status, said)
		}
	}
	for _, want := range []string{"salt/auth map[id:web-1]", "x map[]", "salt/key map[n:7]"} {
		if got := <-b.hinted; got != want {
			t.Errorf("hint %q, not %q", got, want)
		}
	}
}

// Several operations run at a time. Past that they wait, and hold nothing else up.
func TestOperationsAtATime(t *testing.T) {
	const most, more = 4, 3
	b := serve(t)
	b.entered, b.hold = make(chan struct{}), make(chan struct{})
	answers := make(chan string, most+more)
	for range most + more {
		go func() {
			_, said := b.ask(t, "POST", "/v1/operation", `{"operation": "roster"}`)
			answers <- said
		}()
	}
	for range most {
		<-b.entered
	}
	for range 10 { // meanwhile one more would have begun
		if status, said := b.ask(t, "GET", "/v1/status", ""); status != 200 {
			t.Errorf("status: %d %s", status, said)
		}
	}
	select {
	case <-b.entered:
		t.Errorf("more than %d operations run", most)
	default:
	}
	for range more {
		b.hold <- struct{}{}
		<-b.entered
	}
	for range most {
		b.hold <- struct{}{}
	}
	for range most + more {
		if said := <-answers; !strings.Contains(said, `"error":"roster"`) {
			t.Errorf("answered %s", said)
		}
	}
}

func TestASecondBridgeIsTold(t *testing.T) {
	b := serve(t)
	if _, err := api.Listen(b.path, -1); !errors.Is(err, api.ErrInUse) {
		t.Errorf("got %v", err)
	}
}

func TestASocketLeftBehindIsReplaced(t *testing.T) {
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close() // as a bridge that was killed leaves it
	l, err := api.Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

// TestFullStatus: a status with all problems is asked for by itself, and may be larger than
// other answers.
func TestFullStatus(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := api.Listen(socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- api.Serve(ctx, l, api.Bridge{Status: func(all bool) any {
			if all {
				return strings.Repeat("x", 8<<20)
			}
			return "brief"
		}})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	client, said := api.NewClient(socket), ""
	if err := client.Status(t.Context(), &said); err != nil || said != "brief" {
		t.Errorf("status: %d bytes, %v", len(said), err)
	}
	if err := client.FullStatus(t.Context(), &said); err != nil || len(said) != 8<<20 {
		t.Errorf("full status: %d bytes, %v", len(said), err)
	}
}
