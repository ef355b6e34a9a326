package lab

import (
	"sync"
	"time"
)

// Reachability records which master reaches which minion: each of its masters pings
// all minions every second until the test ends. A minion that answers is served by
// that master at that moment, whatever logs and rows say.
type Reachability struct {
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

// NewReachability watches minions; see [Reachability.From] for the masters.
func NewReachability(ids ...string) *Reachability {
	return &Reachability{ids: ids, last: map[string]Answer{}, gaps: map[string]time.Duration{}}
}

// From lets one more master ping, until the test ends. It must be ready, and may die
// later.
func (r *Reachability) From(m *Master) {
	m.lab.tb.Helper()
	m.Listen().Follow(func(id string) { r.answered(id, Answer{m.Name, time.Now()}) }, r.ids...)
}

func (r *Reachability) answered(id string, a Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, ok := r.last[id]; ok {
		r.gaps[id] = max(r.gaps[id], a.At.Sub(before.At))
	}
	r.last[id] = a
}

// Last is the minion's last answer; zero if it has given none.
func (r *Reachability) Last(id string) Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last[id]
}

// Gaps gives, by minion, the longest time without an answer since the last call of
// Gaps. The time since the last answer counts as well.
func (r *Reachability) Gaps() map[string]time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	gaps := map[string]time.Duration{}
	for id, a := range r.last {
		gaps[id] = max(r.gaps[id], time.Since(a.At))
	}
	clear(r.gaps)
	return gaps
}
