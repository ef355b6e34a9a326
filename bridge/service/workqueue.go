package service

import (
	"slices"
	"time"
)

// workQueue are the ids whose keys are to be checked: those whose turn it is, in
// the order in which they came, and those that wait for a time of their own.
type workQueue struct {
	order     []string        // may name an id that was taken out meanwhile
	connected map[string]bool // those whose turn it is; true: the minion has just connected here
	later     map[string]later
	laterAt   time.Time      // the earliest of later; zero: none
	failures  map[string]int // checks in a row that failed, by id
}

type later struct {
	connected bool
	at        time.Time
}

func newWaiting() workQueue {
	return workQueue{connected: map[string]bool{}, later: map[string]later{}, failures: map[string]int{}}
}

// add makes it the turn of id.
func (w *workQueue) add(id string, connected bool) {
	before, there := w.connected[id]
	if !there {
		w.order = append(w.order, id)
	}
	w.connected[id] = before || connected
}

// postpone makes id wait until at. What is known of it until then is not lost.
func (w *workQueue) postpone(id string, connected bool, at time.Time) {
	if old, there := w.later[id]; there {
		connected = connected || old.connected
		if old.at.Before(at) {
			at = old.at
		}
	} else if len(w.later) >= maxQueued {
		return // the next comparison finds it
	}
	w.later[id] = later{connected, at}
	if w.laterAt.IsZero() || at.Before(w.laterAt) {
		w.laterAt = at
	}
}

const (
	// lookupRetryFirst, againMost: when an id is checked again whose check failed for a
	// reason of its own.
	lookupRetryFirst = time.Second
	lookupRetryMost  = 5 * time.Minute
)

// retry makes id wait for longer each time that its check fails.
func (w *workQueue) retry(id string, connected bool, now time.Time) {
	if _, there := w.failures[id]; !there && len(w.failures) >= maxQueued {
		clear(w.failures)
	}
	w.failures[id]++
	w.postpone(id, connected, now.Add(min(lookupRetryFirst<<min(w.failures[id]-1, 16), lookupRetryMost)))
}

// done forgets that checks of id failed.
func (w *workQueue) done(id string) { delete(w.failures, id) }

// pop takes out up to n ids whose turn it is.
func (w *workQueue) pop(n int, now time.Time) map[string]bool {
	if !w.laterAt.IsZero() && !now.Before(w.laterAt) {
		w.laterAt = time.Time{}
		var due []string
		for id, l := range w.later {
			if !now.Before(l.at) {
				due = append(due, id)
			} else if w.laterAt.IsZero() || l.at.Before(w.laterAt) {
				w.laterAt = l.at
			}
		}
		slices.Sort(due) // the same work gives the same calls
		for _, id := range due {
			w.add(id, w.later[id].connected)
			delete(w.later, id)
		}
	}
	out := make(map[string]bool, min(n, len(w.connected)))
	for len(out) < n && len(w.order) > 0 {
		id := w.order[0]
		w.order = w.order[1:]
		out[id] = w.connected[id]
		delete(w.connected, id)
	}
	if len(w.order) == 0 {
		w.order = nil // gives the array back
	}
	return out
}

// any reports whether it is any id's turn.
func (w *workQueue) any() bool { return len(w.order) > 0 }

func (w *workQueue) len() int { return len(w.connected) + len(w.later) }
