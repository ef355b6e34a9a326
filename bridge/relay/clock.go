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
	// clockBucket is how long a measurement counts, at least: a clock that is slewed by
	// 500 ppm is 60 ms off after two of them, and one that stood still, as that of a
	// host that was suspended, is believed again after two.
	clockBucket = time.Minute
)

// clock measures how late a peer's messages are. Each side counts from when it took the
// connection, on its monotonic clock; the two are related by the quickest message of
// the last minute or two. The hosts' wall clocks may say what they like.
//
// Each message gives an upper bound of how far the clocks are apart, and one that came
// within helloWithin of a question one that is off by no more than that. An old bound
// goes only when there is such a one in its place: on a connection that has become
// slow jobs are late, rather than its slowness the new measure.
type clock struct {
	began time.Time

	mu      sync.Mutex
	current bucket
	former  bucket // sure, but before the first minute is over
}

// bucket is the messages of about a minute.
type bucket struct {
	began time.Time
	least time.Duration // that a message's arrival was after its At
	set   bool
	sure  bool // one of them was an answer that came within helloWithin
}

func newClock(now time.Time) *clock { return &clock{began: now, current: bucket{began: now}} }

// at is the current time in this side's messages.
func (c *clock) at(now time.Time) int64 { return now.Sub(c.began).Milliseconds() }

// observe takes in a message's At. sure: it came within helloWithin of a question.
func (c *clock) observe(at int64, now time.Time, sure bool) {
	delay := c.delay(at, now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current.sure && now.Sub(c.current.began) > clockBucket {
		c.former, c.current = c.current, bucket{began: now}
	}
	if !c.current.set || delay < c.current.least {
		c.current.least, c.current.set = delay, true
	}
	c.current.sure = c.current.sure || sure
}

func (c *clock) delay(at int64, now time.Time) time.Duration {
	return now.Sub(c.began) - time.Duration(at)*time.Millisecond
}

// age is how long ago, at least, the peer had it to say.
func (c *clock) age(at int64, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	least := c.current.least
	if c.former.set && (!c.current.set || c.former.least < least) {
		least = c.former.least
	}
	return c.delay(at, now) - least
}

// answered reports whether a message that answers the one which this side sent at asked,
// after the peer held it for some milliseconds, came within helloWithin of it.
func (c *clock) answered(asked, held int64, now time.Time) bool {
	return asked > 0 && held >= 0 && c.at(now)-asked-held <= helloWithin.Milliseconds()
}
