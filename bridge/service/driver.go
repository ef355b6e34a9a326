package service

import (
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// driver is the half of the engine that runs first highstates: it claims, publishes, asks
// minions and records ends. It knows nothing of keys: those who decide about keys say in
// a highstate whether the minion's is accepted.
type driver struct {
	core
	rule func(decide.Policy, decide.Self, decide.Liveness, decide.HighstateView, time.Time) decide.Step

	highstates    map[string]*highstate // first highstates that are still wanted, by id
	jobs          map[string]job        // pings and questions under way, by jid
	failures      callFailures          // what fails for all, see drive
	breaker       breaker               // the circuit breaker of first highstates
	lastJID       string
	jobsDroppedAt time.Time // when jobs that are over were forgotten

	// rowRead is called with each row that the driver read.
	rowRead func(id string, l cachedRow)
}

// highstate is a minion's first highstate, by its Salt id, and when to check it again.
type highstate struct {
	decide.HighstateView
	opened time.Time
	due    time.Time // zero: at once
	queued bool      // waits for a slot
	halted bool      // waits for the circuit breaker
	stale  bool      // a write ended in doubt: read the row before anything else
	why    string    // the reason of the last step, for people
	until  time.Time // when that step ends by itself; zero: something must happen

	answers   salt.Answers   // to the last question after its job
	answersTo time.Time      // when that was sent
	unread    string         // why its last answer was not understood
	backoff   [sides]backoff // after failures that concern it alone
	alone     bool           // its highstate is published by itself: it may be why others' are not

	anew bool // its key has changed since it was checked

	acceptedAt, firstConnected time.Time // first here, for metrics; zero: not seen
}

// UpdateRow records a row that was read, or that another wrote.
func (c *highstate) UpdateRow(row fleet.Minion, now time.Time) {
	known := c.KeyAt
	c.HighstateView.UpdateRow(row, now)
	if c.KeyAt != known {
		c.heardAnew()
	}
}

// KeyChanged records that another key than before lets the minion in here, or the same
// one anew.
func (c *highstate) KeyChanged(now time.Time) {
	c.HighstateView.KeyChanged(now)
	c.heardAnew()
}

// heardAnew forgets what was measured of the machine that had the former key.
func (c *highstate) heardAnew() {
	c.anew = true
	c.answers, c.answersTo, c.unread = salt.Answers{}, time.Time{}, ""
	c.acceptedAt, c.firstConnected = time.Time{}, time.Time{}
}
