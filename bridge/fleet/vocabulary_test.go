package fleet_test

import (
	"errors"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

func TestBeat(t *testing.T) {
	row, err := fleet.Beat{InstanceID: "m", IPAddr: "127.0.0.1", Incarnation: "a",
		MasterKeySHA256: "k"}.Apply(fleet.Master{}, false)
	if want := (fleet.Master{InstanceID: "m", Status: fleet.Launch, IPAddr: "127.0.0.1", Heartbeat: 1, Incarnation: "a",
		MasterKeySHA256: "k"}); err != nil || row != want {
		t.Errorf("first beat: %v, %+v", err, row)
	}
	// The counter goes on when the bridge starts anew: observers take any rise for life.
	row, err = fleet.Beat{InstanceID: "m", IPAddr: "127.0.0.2", Incarnation: "b", Ready: true}.Apply(row, true)
	if want := (fleet.Master{InstanceID: "m", Status: fleet.Launch, IPAddr: "127.0.0.2", Heartbeat: 2, Incarnation: "b",
		Ready: true}); err != nil || row != want {
		t.Errorf("next life: %v, %+v", err, row)
	}
	row.Status = fleet.Terminate
	if after, err := (fleet.Beat{InstanceID: "m"}).Apply(row, true); !errors.Is(err, fleet.ErrTerminated) ||
		after != row {
		t.Errorf("terminated: %v, %+v", err, after)
	}
}

// Strings of times sort as the times do: an index is ordered by them.
func TestTimeSorts(t *testing.T) {
	base := time.Date(2026, 1, 2, 3, 4, 59, 999_000_000, time.FixedZone("", 3600))
	last := ""
	for _, d := range []time.Duration{-24 * 365 * time.Hour, -time.Hour, 0, time.Millisecond, time.Second, time.Minute,
		24 * 300 * time.Hour} {
		text := fleet.FormatTime(base.Add(d))
		back, err := fleet.ParseTime(text)
		if text <= last || len(text) != len("2026-01-02T02:04:59.999Z") || err != nil || !back.Equal(base.Add(d)) {
			t.Errorf("%s after %s; read back %v (%v)", text, last, back, err)
		}
		last = text
	}
	if at, err := fleet.ParseTime("2026-01-02T02:04:59Z"); err == nil {
		t.Errorf("a time of another width was read: %v", at)
	}
}

func TestSaltID(t *testing.T) {
	for want, row := range map[string]fleet.Minion{
		"i-1": {InstanceID: "i-1"},
		"web": {InstanceID: "i-1", MinionID: "web"},
	} {
		if got := row.SaltID(); got != want {
			t.Errorf("%+v: %s", row, got)
		}
	}
}
