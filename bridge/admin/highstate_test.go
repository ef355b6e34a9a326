package admin

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
)

// TestAwaitHighstates: whoever waits for a highstate waits for all attempts that the
// bridges make by themselves, sees each of them, and gets the outcome of the last.
func TestAwaitHighstates(t *testing.T) {
	for name, test := range map[string]struct {
		outcomes []fleet.Outcome // of the attempts, one after the other
		wait     time.Duration
		want     string // what is seen
		err      string // in the error; empty: none
		late     bool
	}{
		"the first attempt succeeds": {[]fleet.Outcome{fleet.Succeeded}, time.Hour,
			"accepted 0, running 1, done 1", "", false},
		"the second attempt succeeds": {[]fleet.Outcome{fleet.Erred, fleet.Succeeded}, time.Hour,
			"accepted 0, running 1, failed 1, running 2, done 2", "", false},
		"all attempts fail": {[]fleet.Outcome{fleet.Erred, fleet.Erred, fleet.Erred}, time.Hour,
			"accepted 0, running 1, failed 1, running 2, failed 2, running 3, failed 3",
			"1 of 1 highstates failed", false},
		"the time is over before the next attempt": {[]fleet.Outcome{fleet.Erred}, 30 * time.Second,
			"accepted 0, running 1, failed 1", "1 of 1 highstates have not ended within 30s", true},
		"the minion is retired meanwhile": {nil, time.Hour, "accepted 0, terminated 0",
			"1 of 1 highstates failed", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				store, err := sqlite.Open(t.Context(), filepath.Join(dir, "fleet.db"))
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				apply := func(c fleet.Change) fleet.Minion {
					t.Helper()
					row, err := fleet.ApplyOne(t.Context(), store, c)
					if err != nil {
						t.Fatal(err)
					}
					return row
				}
				apply(fleet.Add{InstanceID: "web-1"})
				apply(fleet.Bind{InstanceID: "web-1", KeySHA256: strings.Repeat("a", 64)})
				a := Admin{Config: config.Default(), Store: store}
				a.Config.Store = "sqlite:" + filepath.Join(dir, "fleet.db")
				var seen []string
				// The bridge's next act follows what is seen.
				changed := func(_ string, row fleet.Minion) {
					phase := decide.PhaseOf(row, true, false)
					seen = append(seen, fmt.Sprintf("%s %d", phase, row.Attempt))
					switch {
					case phase == decide.PhaseAccepted && test.outcomes == nil:
						apply(fleet.Retire{InstanceID: "web-1"})
					case phase == decide.PhaseRunning:
						apply(fleet.Finish{InstanceID: "web-1", JID: row.ClaimJID,
							Outcome: test.outcomes[row.Attempt-1], From: row.ClaimVersion})
					case row.Attempt < len(test.outcomes):
						apply(fleet.Claim{InstanceID: "web-1", From: row.ClaimVersion, Owner: "salt-1",
							Incarnation: "1", JID: fmt.Sprintf("2026010100000000000%d", row.Attempt),
							Attempt: row.Attempt + 1})
					}
				}
				err = a.AwaitHighstates(t.Context(), []string{"web-1"}, test.wait, changed)
				if got := strings.Join(seen, ", "); got != test.want {
					t.Errorf("seen: %s, not %s", got, test.want)
				}
				if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) ||
					errors.Is(err, ErrAwaited) != test.late {
					t.Errorf("%v, not %q", err, test.err)
				}
			})
		})
	}
}
