package decide

import (
	"time"

	"phoenix/bridge/fleet"
)

// Saw takes in a row that was read, or written by another.
func (c *Course) Saw(row fleet.Minion, now time.Time) {
	news := c.RowAt.IsZero() || row.ClaimVersion != c.Row.ClaimVersion
	c.Row, c.RowAt = row, now
	if news {
		c.Since = now
		c.forget()
	}
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

// PublishedAt takes in that the jid was published or, if it is not sure, that
// nobody knows whether it was: asking will tell. A jid is given up only after
// one more publish that is sure, since the minion then drops any that comes late.
func (c *Course) PublishedAt(now time.Time, sure bool) {
	c.Resent = c.Resent || sure && c.Unknowns > 0
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
	Asked    time.Time // when the question was sent
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
	c.Failover, c.NoCache = a.Failover, a.NoCache
	switch {
	case a.Running:
		c.Unknowns = 0
	case a.Ended != nil:
		c.Ended = a.Ended
	case a.Asked.Before(c.Since), !a.Asked.After(c.Published), !a.Asked.After(c.Told):
		// Asked before the jid was sent (again), or counted before: answers come
		// late, and minions return twice. It says nothing against what was sent since.
	default:
		c.Unknowns++
		c.Told = a.Asked
	}
}

func (c *Course) forget() {
	c.Taken, c.Published, c.Resent = TakenNot, time.Time{}, false
	c.Asked, c.Asks, c.Unknowns, c.Told, c.NoCache, c.Failover = time.Time{}, 0, 0, time.Time{}, false, false
	if c.Ended != nil && c.Ended.JID != c.Row.ClaimJID {
		c.Ended = nil
	}
}
