package service

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// TestQueuedIsInTheRow: the row of a master says how many first highstates wait for a
// slot of it, and 0 once none does.
func TestQueuedIsInTheRow(t *testing.T) {
	d := newDriven(t, ids(5)...)
	beats := NewHeartbeats(d.Store, fleet.Beat{InstanceID: "m"}, 30*time.Second, func() time.Time { return d.clock },
		slog.New(slog.NewTextHandler(io.Discard, nil)))
	beats.SetReady(true)
	beats.Tick(t.Context())
	d.engine.beats = beats
	d.engine.cfg.Concurrency = 2
	queued := func() int {
		t.Helper()
		beats.Tick(t.Context())
		_ = d.drive(0)
		d.engine.publishStatus()
		beats.Tick(t.Context())
		rows, err := d.Store.Masters(t.Context())
		if err != nil || len(rows) != 1 {
			t.Fatalf("%+v, %v", rows, err)
		}
		return rows[0].Queued
	}
	for _, want := range []int{3, 1, 0} {
		if n := queued(); n != want {
			t.Errorf("%d wait, want %d", n, want)
		}
		for id, h := range d.engine.highstates {
			if h.Row.ClaimState == fleet.Claimed && h.Ended == nil {
				d.end(id, 0)
			}
		}
	}
}
