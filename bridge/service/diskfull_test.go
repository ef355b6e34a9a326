package service

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
)

// TestFullDiskIsNamed: a heartbeat that finds the disk full says so at once, and until the
// next one is written: in the report, as the reason why the master is not ready, and in the
// audit trail.
func TestFullDiskIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mount a small file system: only root may")
	}
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("mount a small file system: not in this sandbox: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Now()
	beats := NewHeartbeats(store, fleet.Beat{InstanceID: "salt-1", IPAddr: "10.0.0.1", Incarnation: "1"},
		30*time.Second, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	beats.Tick(t.Context())
	if err := beats.Fault(); err != nil || beats.NotReached(now) != nil {
		t.Fatal(err, beats.NotReached(now))
	}
	filler := filepath.Join(dir, "filler")
	_ = os.WriteFile(filler, bytes.Repeat([]byte("x"), 1<<20), 0o600) // as much as there is room for
	now = now.Add(beatEvery)
	beats.Tick(t.Context())
	if err := beats.Fault(); err == nil || !strings.Contains(err.Error(), "database or disk is full") ||
		!strings.Contains(err.Error(), "make room in "+dir) {
		t.Errorf("the first heartbeat says %v", err)
	}
	if err := beats.NotReached(now); err != nil {
		t.Errorf("within a lease: %v", err)
	}
	now = now.Add(30 * time.Second)
	if err := beats.NotReached(now); err == nil || !strings.Contains(err.Error(), "does not reach the store: ") ||
		!strings.Contains(err.Error(), "database or disk is full") {
		t.Errorf("after a lease: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	beats.Tick(t.Context())
	if err := beats.Fault(); err != nil || beats.NotReached(now) != nil {
		t.Error("with room again:", err, beats.NotReached(now))
	}
}
