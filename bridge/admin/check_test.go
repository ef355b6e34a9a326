package admin

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/audit"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
)

// TestCheckOfDrainedMaster: whether those that are still connected have no agent depends on
// when the drain began. The row says so, wherever that was asked for; of a row that an
// older phoenix marked, the trail of the machine where that was done.
func TestCheckOfDrainedMaster(t *testing.T) {
	cfg, now := config.Default(), time.Now()
	cfg.Audit.File = filepath.Join(t.TempDir(), "audit.log")
	serving := func(id string) fleet.Master {
		return fleet.Master{InstanceID: id, Status: fleet.Launch, Ready: true,
			Modified: fleet.FormatTime(now), Connected: 4}
	}
	check := func(own fleet.Master) *MasterCheck {
		own.Draining = true
		c := &MasterCheck{InstanceID: own.InstanceID, Draining: true, DrainedAt: Admin{Config: cfg}.drainedAt(own)}
		c.judge(own, "", []fleet.Master{own, serving("salt-2")}, cfg, now)
		return c
	}
	for since, want := range map[string][2]string{
		"": {"not known to be safe yet",
			"when the drain began is not known: wait 2m, or let phoenix masters drain salt-1 record it"},
		"no time": {"not known to be safe yet", "when the drain began is not known"},
		fleet.FormatTime(now.Add(-time.Minute)): {"not known to be safe yet",
			"4 minions still connected: it was drained 1m ago, and agents move theirs within 2m "},
		// by a clock that is ahead
		fleet.FormatTime(now.Add(time.Minute)): {"not known to be safe yet", "it was drained 0s ago"},
		fleet.FormatTime(now.Add(-time.Hour)): {"safe for all but 4 minions that did not leave",
			"it was drained 1h0m ago"},
	} {
		own := serving("salt-1")
		own.DrainingSince = since
		if c := check(own); c.Safe || c.Verdict != want[0] || !strings.Contains(strings.Join(c.Why, "; "), want[1]) {
			t.Errorf("draining since %q: %+v", since, c)
		}
	}
	line := `{"time":"2026-01-01T00:00:00Z","level":"INFO","msg":"master drained by hand","minion":"salt-1","by":"alice"}` + "\n"
	if err := audit.Append(cfg.Audit.File, []byte(line), audit.MaxFile); err != nil {
		t.Fatal(err)
	}
	if c := check(serving("salt-1")); c.Verdict != "safe for all but 4 minions that did not leave" {
		t.Errorf("by the trail: %+v", c)
	}
}

// TestCheckOfMasterDrainedElsewhere: a drain that was asked for on another machine has its
// time in the row.
func TestCheckOfMasterDrainedElsewhere(t *testing.T) {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	cfg := config.Default()
	cfg.Audit.File, cfg.Socket = filepath.Join(t.TempDir(), "audit.log"), filepath.Join(t.TempDir(), "s")
	for _, id := range []string{"salt-1", "salt-2"} {
		if _, err := store.Beat(t.Context(),
			fleet.Beat{InstanceID: id, Incarnation: "1", Ready: true, Connected: 4}); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere := Admin{Config: cfg, Store: store}
	elsewhere.Config.Audit.File = filepath.Join(t.TempDir(), "audit.log")
	if _, err := elsewhere.DrainMaster(t.Context(), DrainMaster{ID: "salt-1"}); err != nil {
		t.Fatal(err)
	}
	c, err := Admin{Config: cfg, Store: store}.CheckMaster(t.Context(), "salt-1")
	if err != nil || c.DrainedAt == nil || time.Since(*c.DrainedAt).Abs() > time.Minute {
		t.Errorf("%+v, %v", c, err)
	}
}
