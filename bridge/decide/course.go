package decide

import (
	"time"

	"phoenix/bridge/fleet"
)

// Saw takes in a row that was read, or written by another.
func (c *Course) Saw(row fleet.Minion, now time.Time) {
	if c.RowAt.IsZero() || row.ClaimVersion != c.Row.ClaimVersion {
		c.Since = now
		c.forget()
	}
	c.Row, c.RowAt = row, now
}

// Took takes in the row of a claim that this master wrote.
func (c *Course) Took(row fleet.Minion, now time.Time) {
	over := c.Row.ClaimState == fleet.Claimed
	c.Saw(row, now)
	c.Taken = TakenNew
	if over {
		c.Taken = TakenOver
	}
}

// PublishedAt takes in that the jid was published, or that nobody knows whether
// it was: the minion drops a jid that it has seen, and asking will tell.
func (c *Course) PublishedAt(now time.Time) {
	c.Resent = c.Resent || c.Unknowns > 0
	c.Published, c.Unknowns = now, 0
}

// AskedAt takes in that the minion was asked after the jid.
func (c *Course) AskedAt(now time.Time) {
	c.Asked = now
	c.Asks++
}

// Answer is what a minion says of a jid.
type Answer struct {
	JID      string
	Running  bool
	Ended    *Ended // it has it in its cache of jobs
	NoCache  bool   // it does not run, and the minion keeps no jobs
	Failover bool   // the minion's master_type
}

// Answered takes in a minion's answer. To have answered at all, it is connected.
func (c *Course) Answered(a Answer, now time.Time) {
	c.Here = now
	if a.JID != c.Row.ClaimJID {
		return
	}
	c.Failover = a.Failover
	c.NoCache = false
	switch {
	case a.Running:
		c.Unknowns = 0
	case a.Ended != nil:
		c.Ended = a.Ended
	case a.NoCache:
		c.NoCache = true
		c.Unknowns++
	default:
		c.Unknowns++
	}
}

func (c *Course) forget() {
	c.Taken, c.Published, c.Resent = TakenNot, time.Time{}, false
	c.Asked, c.Asks, c.Unknowns, c.NoCache, c.Failover = time.Time{}, 0, 0, false, false
	if c.Ended != nil && c.Ended.JID != c.Row.ClaimJID {
		c.Ended = nil
	}
}
