package bus

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstPause = 100 * time.Millisecond

	// absentPause bounds the pauses while nobody listens: such a try costs the
	// master nothing, and one that restarts shall be found at once.
	absentPause = time.Second

	// droppedPause bounds them while connections do not last: Salt 3008.2 leaks
	// memory with each that comes and goes.
	droppedPause = 30 * time.Second

	// stableAfter is how long a connection must have lasted for the next pause
	// to be a short one again.
	stableAfter = time.Minute
)

// pause is how long to wait before the next try: twice as long each time.
type pause struct {
	last time.Duration
}

// next gives the pause, jittered by half, so that bridges that lost their
// masters together do not come back together.
func (p *pause) next(most time.Duration) time.Duration {
	p.last = min(max(2*p.last, firstPause), most)
	return p.last/2 + rand.N(p.last/2+1)
}

func (p *pause) reset() { p.last = 0 }

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
