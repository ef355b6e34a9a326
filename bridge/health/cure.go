package health

import (
	"time"

	"phoenix/bridge/fleet"
)

// Apart is how much time passes between two masters of a fleet that have
// themselves replaced, at least: a new one needs some minutes until it serves, and
// what ails two at once is seldom cured by new machines.
const Apart = 15 * time.Minute

// Cure decides whether a master that does not serve is to have its instance
// replaced. Times are of one monotonic clock, and are handed in.
type Cure struct {
	After time.Duration // without a proof; 0: never
	Apart time.Duration

	sick   time.Time  // since then it neither serves nor answers; zero: it serves
	seen   fleet.Heal // the fleet's record of heals
	seenAt time.Time  // when it was first seen so; zero: never read
	done   bool
}

// Health takes in whether the master is proven to serve, or is to be left alone; and
// when a worker last answered, however late. A master with much to do is not ready for
// as long, but a new one would have no less to do.
func (c *Cure) Health(serves bool, alive, now time.Time) {
	switch {
	case serves:
		c.sick = time.Time{}
		return
	case c.sick.IsZero():
		c.sick = now
	}
	if alive.After(c.sick) {
		c.sick = alive
	}
}

// Saw takes in the fleet's record. now must be read after the record was.
func (c *Cure) Saw(heal fleet.Heal, now time.Time) {
	if c.seenAt.IsZero() || heal != c.seen {
		c.seen, c.seenAt = heal, now
	}
}

// Done takes in that the instance is called unhealthy: that is said once in a
// process's life, and ends it.
func (c *Cure) Done() { c.done = true }

// Sick reports whether the master has not served for as long as it may.
func (c *Cure) Sick(now time.Time) bool {
	return c.After > 0 && !c.done && !c.sick.IsZero() && now.Sub(c.sick) >= c.After
}

// Due reports whether this master may claim to be the next that is replaced, and over
// which count of the record: it does not serve, another one does, and nobody was
// replaced lately.
func (c *Cure) Due(another bool, now time.Time) (over int64, due bool) {
	quiet := !c.seenAt.IsZero() && (c.seen.Count == 0 || now.Sub(c.seenAt) >= c.Apart)
	return c.seen.Count, another && quiet && c.Sick(now)
}
