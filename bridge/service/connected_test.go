package service

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
)

// TestDrainingMasterCountsWhoLeaves: a beat counts all minions that are connected. While
// the master drains it counts those that can leave, at each beat: else a master with a
// minion of its own is never drained.
func TestDrainingMasterCountsWhoLeaves(t *testing.T) {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now, remote := time.Now(), 2
	beats := NewHeartbeats(store, fleet.Beat{InstanceID: "salt-1", IPAddr: "10.0.0.1", Incarnation: "1"}, time.Minute,
		func() time.Time { return now }, slog.New(slog.DiscardHandler))
	beats.CountConnected(func(leaving bool) (int, error) {
		if leaving {
			return remote, nil
		}
		return remote + 1, nil
	})
	tick := func(want int) {
		t.Helper()
		beats.Tick(t.Context())
		if n := beats.Row().Connected; n != want {
			t.Errorf("%d are connected, not %d", n, want)
		}
		now = now.Add(5 * time.Second)
	}
	tick(3)
	remote = 1
	tick(3) // not counted again yet
	if err := store.DrainMaster(t.Context(), "salt-1", true); err != nil {
		t.Fatal(err)
	}
	beats.Tick(t.Context()) // it learns of it
	tick(1)
	remote = 0
	tick(0)
}
