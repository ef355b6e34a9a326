package fleet_test

import (
	"testing"

	"phoenix/bridge/fleet"
)

func TestFollowing(t *testing.T) {
	three := []fleet.Master{{Minions: 90, Connected: 60}, {Minions: 90, Connected: 59}, {Minions: 89, Connected: 50}}
	for name, tt := range map[string]struct {
		masters []fleet.Master
		follow  int
		want    int
	}{
		"each follows two but for 11":        {three, 2, 11},
		"more connections than are followed": {three, 1, 0},
		"all three":                          {three, 3, 101},
		"there are no more than three":       {three, 16, 101},
		"one master alone":                   {three[:1], 2, 30},
		"no master":                          {nil, 2, 0},
	} {
		if got := fleet.CountFollowing(tt.masters).Missing(tt.follow); got != tt.want {
			t.Errorf("%s: %d missing, want %d", name, got, tt.want)
		}
	}
}
