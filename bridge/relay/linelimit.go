package relay

import (
	"sync"
	"time"
)

const (
	// tellEvery: in the long run, at most one line in so long is written about what
	// others can cause at will.
	lineEvery = 10 * time.Second
	// tellAtOnce is how many lines may come together: a single attempt has a line of its own.
	linesAtOnce = 10
)

// lineLimit decides when a line is written about something that may come often.
type lineLimit struct {
	mu    sync.Mutex
	used  time.Duration // of what tellAtOnce lines may use
	then  time.Time
	times int // since the last line
}

// next counts one more. yes: it is to be written, and times is how many there were since
// the last line.
func (s *lineLimit) next(now time.Time) (times int, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times++
	if !s.then.IsZero() {
		s.used = max(0, s.used-now.Sub(s.then))
	}
	s.then = now
	if s.used+lineEvery > linesAtOnce*lineEvery {
		return 0, false
	}
	s.used += lineEvery
	times, s.times = s.times, 0
	return times, true
}
