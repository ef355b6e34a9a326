// Package retry holds the waits between the tries of one thing: how long they are, and
// a sleep that ends with its context.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is a wait that grows: First after the first failure, then twice as long each
// time, and never longer than Most.
type Backoff struct{ First, Most time.Duration }

// Next returns the wait that follows last. The wait that follows 0 is First.
func (b Backoff) Next(last time.Duration) time.Duration {
	return min(max(2*last, b.First), b.Most)
}

// After returns the wait after so many failures in a row.
func (b Backoff) After(failures int) time.Duration {
	d := b.Next(0)
	for ; failures > 1 && d < b.Most; failures-- {
		d = b.Next(d)
	}
	return d
}

// Jitter returns between half of d and d, at random. Processes that failed together
// then do not try again together.
func Jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// Spread returns d, shorter or longer at random by up to share of it. Processes that
// were started together then drift apart, and the mean interval stays d.
func Spread(d time.Duration, share float64) time.Duration {
	return time.Duration(float64(d) * (1 + share*(2*rand.Float64()-1)))
}

// Sleep waits for d, or until ctx ends. It reports whether d has passed.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
