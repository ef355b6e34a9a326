package cli

import (
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// TestMoversKeepTheOldKey: which minions Salt moves to a master with the old key.
func TestMoversKeepTheOldKey(t *testing.T) {
	row := func(id, ip string, port int, key string, change func(m *fleet.Master)) fleet.Master {
		m := fleet.Master{InstanceID: id, Status: fleet.Launch, IPAddr: ip, RetPort: port, Ready: true,
			MasterKeySHA256: key}
		if change != nil {
			change(&m)
		}
		return m
	}
	uris := withOldKey([]fleet.Master{
		row("self", "10.0.0.1", 0, "old", nil),
		row("other", "10.0.0.2", 0, "old", nil),
		row("six", "fd00::3", 9006, "old", nil),
		row("changed", "10.0.0.4", 0, "new", nil),
		row("away", "10.0.0.5", 0, "old", func(m *fleet.Master) { m.Ready = false }),
		row("gone", "10.0.0.6", 0, "old", func(m *fleet.Master) { m.Status = fleet.Terminate }),
	}, "self", "old")
	if len(uris) != 2 || !uris["tcp://10.0.0.2:4506"] || !uris["tcp://[fd00::3]:9006"] {
		t.Errorf("masters with the old key: %v", uris)
	}
	both := []string{"tcp://10.0.0.1:4506", "tcp://10.0.0.2:4506"}
	for name, test := range map[string]struct {
		mover mover
		moves bool
	}{
		"failover":                  {mover{"failover", both, 30 * time.Second}, true},
		"knows no other":            {mover{"failover", both[:1], 30 * time.Second}, false},
		"the other has the new key": {mover{"failover", []string{"tcp://10.0.0.4:4506"}, 30 * time.Second}, false},
		"all at once":               {mover{"str", both, 30 * time.Second}, false},
		"never checks":              {mover{"failover", both, 0}, false},
		"checks too rarely":         {mover{"failover", both, 5 * time.Minute}, false},
	} {
		if got := test.mover.movesTo(uris); got != test.moves {
			t.Errorf("%s: moves %v", name, got)
		}
	}
	if seconds(int64(30)) != 30*time.Second || seconds(0.5) != time.Second/2 || seconds("") != 0 || seconds(nil) != 0 {
		t.Error("seconds")
	}
}
