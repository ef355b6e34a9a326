package swarm

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Point is something that a minion comes to.
type Point int

// The points of a minion's life, in order.
const (
	Accepted  Point = iota // an auth request let it in
	Connected              // it has subscribed
	Started                // its start event was taken in
	Begun                  // a state function was begun
	Returned               // and what it returned was taken in
	points
)

var pointNames = [points]string{"accepted", "connected", "started", "begun", "returned"}

// String names the point.
func (p Point) String() string { return pointNames[p] }

// Came is how long after the begin of the measurement each minion that did so first came
// to the point, sorted.
func (s *Swarm) Came(p Point) []time.Duration {
	s.mu.Lock()
	begun := s.begun
	s.mu.Unlock()
	var out []time.Duration
	for _, m := range s.minions {
		m.mu.Lock()
		if at := m.came[p]; !at.IsZero() {
			out = append(out, at.Sub(begun))
		}
		m.mu.Unlock()
	}
	slices.Sort(out)
	return out
}

// watchEvery is how often Wait looks.
const watchEvery = 20 * time.Millisecond

// Wait waits until all minions have come to the point.
func (s *Swarm) Wait(ctx context.Context, p Point) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		n := len(s.Came(p))
		if n == len(s.minions) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until all are %s: %d of %d are: %w", p, n, len(s.minions), ctx.Err())
		case <-tick.C:
		}
	}
}

// Connected is how many minions have a publish connection now, by master.
func (s *Swarm) Connected() []int {
	out := make([]int, len(s.masters))
	for _, m := range s.minions {
		m.mu.Lock()
		if m.up {
			out[m.at]++
		}
		m.mu.Unlock()
	}
	return out
}

// Runs is how many minions have begun no state function, one, and several.
func (s *Swarm) Runs() (none, once, again int) {
	for _, m := range s.minions {
		m.mu.Lock()
		switch m.runs {
		case 0:
			none++
		case 1:
			once++
		default:
			again++
		}
		m.mu.Unlock()
	}
	return none, once, again
}
