package decide

import (
	"time"

	"phoenix/bridge/fleet"
)

// UpdateRow records a row that was read, or that another master wrote.
func (c *HighstateView) UpdateRow(row fleet.Minion, now time.Time) {
	news := c.RowAt.IsZero() || row.ClaimVersion != c.Row.ClaimVersion
	if !c.RowAt.IsZero() && row.KeySHA256 != c.Row.KeySHA256 {
		c.KeyChanged(now)
		c.Accepted = false // until its keys have been checked: this master may have the former one
	}
	c.Row, c.RowAt = row, now
	if news {
		c.Since = now
		c.reset()
	}
}

// KeyChanged records that another key than before lets the minion in here, or the same
// one anew. What was heard until then may be of another machine: it proves nothing of the
// one that has the key.
func (c *HighstateView) KeyChanged(now time.Time) {
	c.KeyAt = now
	c.ConnectedAt, c.Pinged = time.Time{}, time.Time{}
	c.KindAsked, c.KindAsks, c.Hot, c.Failover = time.Time{}, 0, time.Time{}, false
	c.Busies, c.BusyAt, c.Blocker, c.Free = 0, time.Time{}, Blocker{}, time.Time{}
}

// Authenticated records an event that the minion has authenticated here, which any
// accepted minion can send in its name. Whether it is connected, a ping shows; if one was
// sent before, the minion could not read it.
func (c *HighstateView) Authenticated(now time.Time) {
	if at := now.Add(authSettles - pingEvery); c.Pinged.After(at) {
		c.Pinged = at
	}
}

// Counts reports whether an answer to a question that was sent then is of the minion: of
// the machine that has the key which is bound now.
func (c *HighstateView) Counts(sent time.Time) bool { return !sent.Before(c.KeyAt) }

// ClaimWritten records the row of a claim that this master wrote.
func (c *HighstateView) ClaimWritten(row fleet.Minion, now time.Time) {
	over := c.Row.ClaimState == fleet.Claimed
	c.UpdateRow(row, now)
	c.Taken = TakenNew
	if over {
		c.Taken = TakenOver
	}
}

// PublishedAt records that the jid was published. If that is not sure, the minion is
// asked. A jid is given up only after one more publish that is sure, since the
// minion then drops a publish that arrives late.
func (c *HighstateView) PublishedAt(now time.Time, sure bool) {
	c.Resent = c.Resent || sure && c.Unknowns > 0
	c.Published, c.Unknowns, c.Missing, c.NotRunning = now, 0, false, time.Time{}
}

// PublishedAs records that the master published the row's jid as another one.
func (c *HighstateView) PublishedAs(jid string, now time.Time) {
	c.PublishedAt(now, true)
	if c.SentAs, c.SentFor = jid, c.Row.ClaimJID; jid == "" {
		c.SentAs, c.SentFor = "something", "" // returns cannot be subscribed to
	}
}

// Renamed records the row after the write of the jid under which the master published.
func (c *HighstateView) Renamed(row fleet.Minion, now time.Time) {
	c.UpdateRow(row, now)
	c.Taken, c.Published = TakenNew, now
}

// AskedAt records that the minion was asked what runs.
func (c *HighstateView) AskedAt(now time.Time) {
	c.Asked, c.Missing = now, false
	c.Asks++
}

// TracedAt records that the minion was asked for the row's jid.
func (c *HighstateView) TracedAt(now time.Time) { c.Traced, c.NotRunning = now, time.Time{} }

// KindAskedAt records that the minion was asked for its master_type.
func (c *HighstateView) KindAskedAt(now time.Time) {
	c.KindAsked = now
	c.KindAsks++
}

// MasterTypeIs records whether one master at a time serves the minion. Since the
// minion answers here, it is this master.
func (c *HighstateView) MasterTypeIs(failover bool, asked, now time.Time) {
	c.ConnectedAt, c.KindAsks = now, 0
	switch {
	case !failover:
		c.Failover, c.Hot = false, now
	case !asked.Before(c.Since): // it may have moved on before the claim
		c.Failover, c.Hot = true, time.Time{}
	}
}

// JobsRunning records which jobs run on the minion: whether the row's jid does, and
// another state run.
func (c *HighstateView) JobsRunning(jid bool, by *Blocker, asked, now time.Time) {
	c.ConnectedAt = now
	switch {
	case jid:
		c.isRunning()
	case !asked.Before(c.Since) && asked.After(c.Published) && asked.After(c.Traced):
		c.NotRunning = asked
	}
	switch {
	case asked.Before(c.Since): // asked before the row had this version
	case by == nil && !jid:
		c.Free = asked
	case by != nil && c.blocked() && asked.After(c.BusyAt):
		c.busy(*by, now)
		c.Asks = 0
	}
}

// isRunning records that the row's jid runs, whatever was answered before.
func (c *HighstateView) isRunning() { c.Unknowns, c.Missing, c.NotRunning = 0, false, time.Time{} }

// PublishedTwice records that the row's jid was sent to a minion that ran it already.
func (c *HighstateView) PublishedTwice(now time.Time) {
	c.ConnectedAt = now
	c.isRunning()
	c.Doubled = true
}

// Answer is what a minion answers about a jid that it does not run: whether its
// queues and its job cache have it.
type Answer struct {
	JID     string
	Asked   time.Time // when the question was sent
	Running bool      // or waits in a queue
	Doubled bool      // its cached return says that it was running already
	Ended   *Ended    // how it ended, by the job cache
	NoCache bool      // it does not run, and the minion has no job cache (cache_jobs is off)
}

// Answered records a minion's answer. A minion that answers is connected here.
func (c *HighstateView) Answered(a Answer, now time.Time) {
	c.ConnectedAt = now
	if a.JID != c.Row.ClaimJID {
		return
	}
	c.NoCache = a.NoCache
	switch {
	case a.Running:
		c.isRunning()
	case a.Doubled:
		c.PublishedTwice(now)
	case a.Ended != nil:
		c.Ended = a.Ended
	default:
		c.Missing = true
		sent := c.Since
		if c.Published.After(sent) {
			sent = c.Published
		}
		// An answer does not count if the question was sent before the jid was, or
		// just after, or if it was counted already: answers arrive late, and minions
		// return twice.
		if !a.Asked.Before(sent.Add(unknownAfter)) && a.Asked.After(c.UnknownAt) {
			c.Unknowns++
			c.UnknownAt = a.Asked
		}
	}
}

// busy records that another state run keeps the minion busy.
func (c *HighstateView) busy(by Blocker, now time.Time) {
	c.Busies++
	c.BusyAt, c.Blocker = now, by
}

// reset drops what belongs to another version of the claim.
func (c *HighstateView) reset() {
	c.Taken, c.Published, c.Resent = TakenNot, time.Time{}, false
	c.Asked, c.Asks, c.NotRunning, c.Traced = time.Time{}, 0, time.Time{}, time.Time{}
	c.Missing = false
	c.Unknowns, c.UnknownAt, c.NoCache, c.Doubled, c.Failover = 0, time.Time{}, false, false, false
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
		c.SentAs, c.SentFor = "", "" // requested by an operator
	}
	if c.Ended != nil && c.Ended.JID != c.Row.ClaimJID {
		c.Ended = nil
	}
}
