package relay

import (
	"sync"
	"time"
)

// tellEvery: at most one line in so long tells of what others can cause at will.
const tellEvery = 10 * time.Second

// seldom says when the log is to tell of something that may come often.
type seldom struct {
	mu    sync.Mutex
	then  time.Time
	times int // since
}

// next counts one more. If it is to be told of, times is how many there were since the
// last line.
func (s *seldom) next(now time.Time) (times int, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times++
	if !s.then.IsZero() && now.Sub(s.then) < tellEvery {
		return 0, false
	}
	times = s.times
	s.times, s.then = 0, now
	return times, true
}
