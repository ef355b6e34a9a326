package decide

import (
	"cmp"
	"fmt"
	"time"

	"phoenix/bridge/fleet"
)

// Blocker is a state run of somebody else that keeps a minion from running its
// highstate.
type Blocker struct {
	JID, Fun string
	PID      int
	Started  string // as the minion reports it; may be empty
}

func (b Blocker) String() string {
	return fmt.Sprintf("%s, PID %d since %s (jid %s)", b.Fun, b.PID, cmp.Or(b.Started, "a jid's time"), b.JID)
}

// blocked reports whether the last try found another state run, and no answer since
// then says that it is over.
func (c HighstateView) blocked() bool {
	return c.Row.ClaimState == fleet.Unclaimed && c.Row.ClaimJID != "" && !c.Free.After(c.Since)
}

// Blocked reports whether a state run of somebody else keeps the minion from its
// highstate, and which one, as far as is known.
func (c HighstateView) Blocked() (by Blocker, blocked bool) { return c.Blocker, c.blocked() }

// waitForFree waits for the end of another state run, with back-off. It asks what
// runs instead of trying a highstate, which would cost two writes and a job to learn
// the same. A minion that answers is connected here.
func (c HighstateView) waitForFree(now time.Time) (step Step, waits bool) {
	reason := "another state run keeps it busy"
	if c.Blocker != (Blocker{}) {
		reason = "blocked by " + c.Blocker.String()
	}
	last := c.Since
	if c.BusyAt.After(last) {
		last = c.BusyAt
	}
	at := last.Add(grow(busyFirst, c.Busies-1, busyMost))
	if again := c.Asked.Add(askFirst); c.Asks > 0 && again.After(at) {
		at = again
	}
	switch {
	case now.Before(at):
		return wait(at, reason), true
	case c.Asks >= freeAsks:
		return Step{}, false
	}
	return Step{Act: Ask, Reason: reason}, true
}
