package member

import (
	"context"
	"sync"
	"time"
)

const (
	// beatEvery, stoodStill: a process whose beat is so late was stopped, or had no
	// processor.
	beatEvery  = 500 * time.Millisecond
	stoodStill = 2 * time.Second
	// drainedIn is how long what came meanwhile takes to be read, at most.
	drainedIn = time.Second
)

// pauseWatch measures when this process was stopped. What it reads when it goes on may
// have come when the pause began.
type pauseWatch struct {
	mu   sync.Mutex
	beat time.Time
	from time.Time // when it stood still last, and until when
	till time.Time
}

func newPauseWatch(now time.Time) *pauseWatch { return &pauseWatch{beat: now} }

func (a *pauseWatch) run(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			a.at(time.Now())
		}
	}
}

// at beats.
func (a *pauseWatch) at(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.step(now)
}

func (a *pauseWatch) step(now time.Time) {
	if now.Sub(a.beat) > stoodStill {
		a.from, a.till = a.beat, now
	}
	a.beat = now
}

// earliest returns the earliest time at which what is read now can have come.
func (a *pauseWatch) earliest(now time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.step(now)
	if !a.till.IsZero() && now.Sub(a.till) < drainedIn {
		return a.from
	}
	return now
}
