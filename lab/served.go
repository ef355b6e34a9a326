package lab

import (
	"sync"
	"time"
)

// Served watches who is served: each master that it was told of pings all minions
// every second, for as long as the test runs. A minion that answers is served at
// that moment, by that master, whatever logs and rows say.
type Served struct {
	ids []string

	mu   sync.Mutex
	last map[string]Answer        // the last one of each minion
	gaps map[string]time.Duration // the longest time between two answers of each
}

// Answer is a minion's word to a master.
type Answer struct {
	Master string // its name
	At     time.Time
}

// NewServed watches minions; see [Served.By] for the masters.
func NewServed(ids ...string) *Served {
	return &Served{ids: ids, last: map[string]Answer{}, gaps: map[string]time.Duration{}}
}

// By lets one more master ping, until the test ends. It must be ready, and may die
// later.
func (s *Served) By(m *Master) {
	m.lab.tb.Helper()
	m.Listen().Follow(func(id string) { s.answered(id, Answer{m.Name, time.Now()}) }, s.ids...)
}

func (s *Served) answered(id string, a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, ok := s.last[id]; ok {
		s.gaps[id] = max(s.gaps[id], a.At.Sub(before.At))
	}
	s.last[id] = a
}

// Last is the minion's last answer; zero if it has given none.
func (s *Served) Last(id string) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last[id]
}

// Gaps gives, by minion, the longest time without an answer since the last call of
// Gaps. The time since the last answer counts as well.
func (s *Served) Gaps() map[string]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	gaps := map[string]time.Duration{}
	for id, a := range s.last {
		gaps[id] = max(s.gaps[id], time.Since(a.At))
	}
	clear(s.gaps)
	return gaps
}
