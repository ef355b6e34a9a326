package api_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/api"
)

func serve(t *testing.T) (path string, looked chan []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "api") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	path, looked = filepath.Join(dir, "run", "bridge.sock"), make(chan []string, 100)
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- api.Serve(ctx, l, api.Bridge{
			Look:   func(ids []string) { looked <- ids },
			Status: func() any { return map[string]int{"keys": 3} },
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
	return path, looked
}

func TestHintsAndStatus(t *testing.T) {
	path, looked := serve(t)
	client := api.NewClient(path)
	if err := client.Look(t.Context(), []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	if got := <-looked; !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("looked at %v", got)
	}
	var status struct{ Keys int }
	if err := client.Status(t.Context(), &status); err != nil || status.Keys != 3 {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestG7GarbageLeavesTheSocketServing(t *testing.T) {
	path, _ := serve(t)
	for _, request := range []string{
		"\x00\xff garbage\r\n\r\n",
		"POST /v1/look HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{]",
		"POST /v1/look HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{\"x\":[1,2]}\n",
		"POST /v1/look HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n{\"ids\":[\"" + strings.Repeat("a", 5<<20),
		"GET /v1/" + strings.Repeat("x", 1<<20) + " HTTP/1.1\r\n\r\n",
		"DELETE /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.WriteString(conn, request)
		answer := make([]byte, 12)
		if n, _ := io.ReadFull(conn, answer); n == len(answer) && !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
			t.Errorf("%.40q: answered %q", request, answer)
		}
		_ = conn.Close()
	}
	if err := api.NewClient(path).Look(t.Context(), []string{"a"}); err != nil {
		t.Error(err)
	}
}

func TestASecondBridgeIsTold(t *testing.T) {
	path, _ := serve(t)
	if _, err := api.Listen(path); !errors.Is(err, api.ErrInUse) {
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
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}
