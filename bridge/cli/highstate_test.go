package cli

import (
	"testing"

	"phoenix/bridge/fleet"
)

// TestAttempts: each line of highstate run --wait says which attempt it is about, where
// there are several.
func TestAttempts(t *testing.T) {
	two := 2
	for want, row := range map[string]fleet.Minion{
		"listed":                   {},
		"running":                  {ClaimState: fleet.Claimed, Attempt: 1},
		"running (attempt 2 of 3)": {ClaimState: fleet.Claimed, Attempt: 2},
		"failed (attempt 1 of 3, retcode 2): it is tried again": {ClaimState: fleet.Failed, Attempt: 1,
			Retcode: &two},
		"failed (attempt 2 of 3, retcode not known): it is tried again": {ClaimState: fleet.Failed, Attempt: 2},
		"failed (attempt 3 of 3, retcode 2)": {ClaimState: fleet.Failed, Attempt: 3,
			Retcode: &two},
		"done": {HighstateRan: true, Attempt: 2},
	} {
		if got := attemptOf(row, 3); got != want {
			t.Errorf("%+v: %s, not %s", row, got, want)
		}
	}
}
