package relay

import (
	"sync"
	"time"
)

const (
	// lateAfter: a job that took longer than this from its master to here is refused.
	// Within that time no minion can have run it elsewhere, been restarted (which
	// empties its memory of job ids) and come here: a restart takes longer.
	lateAfter = 5 * time.Second
	// helloWithin bounds the question and answer by which the clocks are compared,
	// and so how wrong that can be.
	helloWithin = 2 * time.Second
)

// clock tells how late a peer's messages are. Each side counts from when it took the
// connection, on its monotonic clock; the two are related by the quickest message so
// far, of which the first came within helloWithin. The hosts' wall clocks may say what
// they like.
type clock struct {
	began time.Time

	mu      sync.Mutex
	quicker time.Duration // the least that a message's arrival was after its At
	set     bool
}

func newClock(now time.Time) *clock { return &clock{began: now} }

// at is now as this side's messages tell it.
func (c *clock) at(now time.Time) int64 { return now.Sub(c.began).Milliseconds() }

// observe takes in a message's At.
func (c *clock) observe(at int64, now time.Time) {
	delay := now.Sub(c.began) - time.Duration(at)*time.Millisecond
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.set || delay < c.quicker {
		c.quicker, c.set = delay, true
	}
}

// age is how long ago, at least, the peer had it to say.
func (c *clock) age(at int64, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Sub(c.began) - time.Duration(at)*time.Millisecond - c.quicker
}
