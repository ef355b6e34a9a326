package service

import (
	"context"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/salt"
)

const (
	// afterGap: a connection stands some milliseconds before the master sends on it,
	// and its events in between are lost.
	afterGap = 5 * time.Second
	// resyncMost: a comparison that could not be ended for that long begins anew.
	resyncMost = 10 * time.Minute
)

// resyncRun is a comparison under way. It is worked off a batch a step, so that
// nobody waits until all of a large fleet is compared.
type resyncRun struct {
	why       string
	begun     time.Time
	wall      time.Time
	listing   keyListing
	remaining []string // still to be checked
	keys      int
	census    Census
}

// resyncs is what is known of comparisons.
type resyncs struct {
	running *resyncRun // the one under way; nil: none
	at      time.Time  // when the next one is due
	gap     string     // why one is due before at; empty: it is not
	fullAt  time.Time  // when one reads all rows again
	readAt  time.Time  // begin of the last one, by the wall clock

	done   bool // one has ended
	census Census
	took   time.Duration
}

// resync checks every id that this master has a key of, so that no event
// that was lost, before the start, in a gap of the bus or ever, matters for
// longer than until the next comparison. A call does one batch.
func (e *Engine) resync(ctx context.Context) error {
	if s := e.resyncs.running; s == nil || e.now().Sub(s.begun) > resyncMost {
		if err := e.beginResync(ctx); err != nil {
			return err
		}
	}
	s := e.resyncs.running
	chunk := s.remaining[:min(batch, len(s.remaining))]
	// What is remembered is no ground for a comparison.
	for _, id := range chunk {
		e.rows.drop(id)
	}
	connected := make(map[string]bool, len(chunk))
	for _, id := range chunk {
		connected[id] = false
	}
	if err := e.processKeys(ctx, chunk, s.listing, connected); err != nil {
		return err
	}
	for _, id := range chunk {
		if _, is := e.unchanged[id]; !is {
			s.census[e.phase(id, slices.Contains(s.listing[id], salt.Accepted))]++
		}
		e.rows.drop(id) // 10,000 of them are 9 MB, and good for some seconds only
	}
	if s.remaining = s.remaining[len(chunk):]; len(s.remaining) == 0 {
		e.endResync()
	}
	return nil
}

func (e *Engine) beginResync(ctx context.Context) error {
	s := &resyncRun{why: e.resyncs.gap, begun: e.now(), wall: e.wall(), census: Census{}}
	var err error
	if s.listing, err = e.listKeys(); err != nil {
		return err
	}
	full := !s.begun.Before(e.resyncs.fullAt)
	if full { // they are found again, if they are still so
		e.problems.forget(BadRow)
		e.problems.forget(BadStamp)
	}
	if err := e.readChanged(ctx, s.listing); err != nil {
		return err
	}
	ids := slices.Sorted(maps.Keys(s.listing))
	s.keys, s.remaining = len(ids), e.changedIDs(ids, s.listing, full)
	for _, c := range e.highstates {
		c.stale = true
	}
	e.resyncs.running, e.resyncs.gap = s, ""
	e.checkRemoved(s.listing)
	return nil
}

// accepted counts the ids with an accepted key: a minion whose key is pending has no
// connection to the publish port, and is no minion of the master yet.
func (s *resyncRun) accepted() int {
	n := 0
	for _, states := range s.listing {
		if slices.Contains(states, salt.Accepted) {
			n++
		}
	}
	return n
}

func (e *Engine) endResync() {
	s := e.resyncs.running
	e.resyncs.running = nil
	for id, unchanged := range e.unchanged {
		if _, here := s.listing[id]; here {
			s.census[unchanged.phase]++
		} else {
			delete(e.unchanged, id)
		}
	}
	// A highstate without a key here is another master's, or over.
	for id, c := range e.highstates {
		if _, here := s.listing[id]; !here && c.opened.Before(s.begun) {
			delete(e.highstates, id)
		}
	}
	e.dropOldJobs(s.begun)
	e.audit.forgetAbsent(func(id string) bool {
		_, here := s.listing[id]
		return here || e.problems.has(KeyRemoved, id) // it is checked, and reported once
	})
	maps.DeleteFunc(e.problems[OtherKey], func(id, _ string) bool { _, here := s.listing[id]; return !here })
	e.resyncs.census = s.census
	e.beats.SetMinions(s.accepted())
	e.resyncs.readAt = s.wall
	if !s.begun.Before(e.resyncs.fullAt) {
		e.resyncs.fullAt = s.begun.Add(fullEvery)
	}
	e.resyncs.took = e.now().Sub(s.begun)
	e.audit.counters.Durations.Resync(e.resyncs.took)
	e.resyncs.at = s.begun.Add(e.cfg.ResyncEvery)
	if s.why != "" {
		e.resyncs.at = s.begun.Add(afterGap)
	}
	if !e.resyncs.done {
		e.resyncs.done = true
		e.log.Info("keys and fleet compared", "why", s.why, "keys", s.keys, "census", s.census, "took", e.resyncs.took)
	}
}

// phase is the phase of id at its last check.
func (e *Engine) phase(id string, accepted bool) decide.Phase {
	if e.problems.has(BadRow, id) {
		return decide.PhaseUnreadable
	}
	if c := e.highstates[id]; c != nil {
		return decide.PhaseOf(c.Row, true, accepted)
	}
	l := e.rows.entries[id]
	return decide.PhaseOf(l.row, l.found, accepted)
}

// Census counts the ids of one master's key store by where they stand.
type Census map[decide.Phase]int
