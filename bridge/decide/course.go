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
	c.Published, c.Unknowns, c.Missing, c.Silent = now, 0, false, time.Time{}
}

// PublishedAs takes in that the master published the row's jid as another one.
func (c *Course) PublishedAs(jid string, now time.Time) {
	c.PublishedAt(now, true)
	if c.SentAs, c.SentFor = jid, c.Row.ClaimJID; jid == "" {
		c.SentAs, c.SentFor = "something", "" // that nobody can listen for
	}
}

// Renamed takes in the row that names the jid under which the master published.
func (c *Course) Renamed(row fleet.Minion, now time.Time) {
	c.Saw(row, now)
	c.Taken, c.Published = TakenNew, now
}

// AskedAt takes in that the minion was asked what runs.
func (c *Course) AskedAt(now time.Time) {
	c.Asked, c.Missing = now, false
	c.Asks++
}

// TracedAt takes in that the minion was asked for the row's jid.
func (c *Course) TracedAt(now time.Time) { c.Traced, c.Silent = now, time.Time{} }

// KindAskedAt takes in that the minion was asked for its master_type.
func (c *Course) KindAskedAt(now time.Time) {
	c.KindAsked = now
	c.KindAsks++
}

// Is takes in the answer: whether one master at a time serves the minion, and,
// since it answers here, that it is this one.
func (c *Course) Is(failover bool, asked, now time.Time) {
	c.Here, c.KindAsks = now, 0
	switch {
	case !failover:
		c.Failover, c.Hot = false, now
	case !asked.Before(c.Since): // it may have moved on before the claim
		c.Failover, c.Hot = true, time.Time{}
	}
}

// Runs takes in what a minion says is running: whether the row's jid is, and
// another state run.
func (c *Course) Runs(jid bool, by *Blocker, asked, now time.Time) {
	c.Here = now
	switch {
	case jid:
		c.runs()
	case !asked.Before(c.Since) && asked.After(c.Published) && asked.After(c.Traced):
		c.Silent = asked
	}
	switch {
	case asked.Before(c.Since): // of before the row became what it is
	case by == nil && !jid:
		c.Free = asked
	case by != nil && c.blocked() && asked.After(c.BusyAt):
		c.busy(*by, now)
		c.Asks = 0
	}
}

// runs: whatever was said before, the row's jid runs.
func (c *Course) runs() { c.Unknowns, c.Missing, c.Silent = 0, false, time.Time{} }

// RunsTwice takes in that the row's jid, sent again, found itself running.
func (c *Course) RunsTwice(now time.Time) {
	c.Here = now
	c.runs()
	c.Doubled = true
}

// Answer is what a minion says of a jid that it does not run: what its queues and
// its cache of jobs have of it.
type Answer struct {
	JID     string
	Asked   time.Time // when the question was sent
	Running bool      // or waits in a queue
	Doubled bool      // its cached return says that it found itself running
	Ended   *Ended    // it has it in its cache of jobs
	NoCache bool      // it does not run, and the minion keeps no jobs
}

// Answered takes in a minion's answer. To have answered at all, it is connected.
func (c *Course) Answered(a Answer, now time.Time) {
	c.Here = now
	if a.JID != c.Row.ClaimJID {
		return
	}
	c.NoCache = a.NoCache
	switch {
	case a.Running:
		c.runs()
	case a.Doubled:
		c.RunsTwice(now)
	case a.Ended != nil:
		c.Ended = a.Ended
	default:
		c.Missing = true
		sent := c.Since
		if c.Published.After(sent) {
			sent = c.Published
		}
		// Asked before the jid was sent (again), or just after, or counted before:
		// answers come late, and minions return twice. It says nothing against what
		// was sent since.
		if !a.Asked.Before(sent.Add(unknownAfter)) && a.Asked.After(c.Told) {
			c.Unknowns++
			c.Told = a.Asked
		}
	}
}

// busy takes in that another state run was found there.
func (c *Course) busy(by Blocker, now time.Time) {
	c.Busies++
	c.BusyAt, c.Blocker = now, by
}

// forget drops what was of another version of the claim.
func (c *Course) forget() {
	c.Taken, c.Published, c.Resent = TakenNot, time.Time{}, false
	c.Asked, c.Asks, c.Silent, c.Traced = time.Time{}, 0, time.Time{}, time.Time{}
	c.Missing = false
	c.Unknowns, c.Told, c.NoCache, c.Doubled, c.Failover = 0, time.Time{}, false, false, false
	switch {
	case c.Row.ClaimState == fleet.Claimed:
	case c.Row.ClaimState == fleet.Unclaimed && c.Row.ClaimJID != "":
		by := Blocker{}
		if c.Ended != nil && c.Ended.JID == c.Row.ClaimJID {
			by = c.Ended.By
		}
		c.busy(by, c.Since)
	default:
		c.Busies, c.Blocker = 0, Blocker{}
	}
	if c.Row.ClaimState == fleet.Unclaimed && c.Row.ClaimJID == "" {
		c.SentAs, c.SentFor = "", "" // asked for by hand
	}
	if c.Ended != nil && c.Ended.JID != c.Row.ClaimJID {
		c.Ended = nil
	}
}
