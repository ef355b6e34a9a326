package main

import (
	"sync"
	"time"
)

// answers are those to a master's pings.
type answers struct {
	mu   sync.Mutex
	from time.Time // what came before is not counted
	at   map[string][]time.Time
}

func newAnswers(ids ...string) *answers {
	a := &answers{from: time.Now(), at: map[string][]time.Time{}}
	for _, id := range ids {
		a.at[id] = nil
	}
	return a
}

func (a *answers) add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at[id] = append(a.at[id], time.Now())
}

// mark counts from now on, and returns when that is.
func (a *answers) mark() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.from = time.Now()
	return a.from
}

// last is when the minion last answered; zero if it did not.
func (a *answers) last(id string) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.at[id]); n > 0 {
		return a.at[id][n-1]
	}
	return time.Time{}
}

// first is when the minion first answered since the mark; zero if it did not.
func (a *answers) first(id string) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.at[id] {
		if at.After(a.from) {
			return at
		}
	}
	return time.Time{}
}
