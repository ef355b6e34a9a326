package compose

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestAttend: what systemd's socket hears of a service that starts, lives and ends.
func TestAttend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	heard := func() string {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 256)
		n, err := socket.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(text[:n])
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000")
	ctx, cancel := context.WithCancel(t.Context())
	Attend(ctx, time.Now, slog.New(slog.DiscardHandler))
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := heard(); got != want {
			t.Errorf("systemd hears %q, want %q", got, want)
		}
	}
	cancel()
	for got := heard(); got != "STOPPING=1"; got = heard() {
		if got != "WATCHDOG=1" {
			t.Fatalf("systemd hears %q", got)
		}
	}
}

// TestStuckLoopIsNotAlive: while the loop comes round the watchdog is fed, and no
// longer once it stands still.
func TestStuckLoopIsNotAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var turned, fed atomic.Int64
		turn := func() { turned.Store(time.Now().UnixNano()) }
		turn()
		var log strings.Builder
		go watch(ctx, 30*time.Second, func() time.Time { return time.Unix(0, turned.Load()) },
			slog.New(slog.NewTextHandler(&log, nil)), func() { fed.Add(1) })
		synctest.Wait()
		later := func(d time.Duration) int64 {
			before := fed.Load()
			<-time.After(d)
			synctest.Wait()
			return fed.Load() - before
		}
		if n := later(stuckAfter - time.Second); n != 19 {
			t.Errorf("fed %d times while the loop may still come round", n)
		}
		if n := later(time.Hour); n != 0 {
			t.Errorf("fed %d times while the loop is stuck", n)
		}
		turn()
		if n := later(time.Minute); n != 2 {
			t.Errorf("fed %d times after the loop came round", n)
		}
		cancel()
		synctest.Wait()
		if strings.Count(log.String(), "main loop stalled") != 1 {
			t.Errorf("told: %s", log.String())
		}
	})
}
