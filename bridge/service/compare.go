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
	// and what it has to say in between nobody hears.
	afterGap = 5 * time.Second
	// sweepFor: a comparison that could not be ended for that long begins anew.
	sweepFor = 10 * time.Minute
)

// sweep is a comparison under way. It is worked off a batch a step, so that
// nobody waits until all of a large fleet is compared.
type sweep struct {
	why    string
	begun  time.Time
	wall   time.Time
	held   holding
	left   []string // still to be looked at
	keys   int
	census Census
}

// compare looks at every id that this master holds a key for, so that no event
// that was lost, before the start, in a gap of the bus or ever, matters for
// longer than until the next comparison. A call does one batch.
func (e *Engine) compare(ctx context.Context) error {
	if s := e.sweep; s == nil || e.now().Sub(s.begun) > sweepFor {
		if err := e.beginSweep(ctx); err != nil {
			return err
		}
	}
	s := e.sweep
	chunk := s.left[:min(batch, len(s.left))]
	// What is remembered is no ground for a comparison.
	for _, id := range chunk {
		e.rows.drop(id)
	}
	looks := make(map[string]bool, len(chunk))
	for _, id := range chunk {
		looks[id] = false
	}
	if err := e.lookAtKeys(ctx, chunk, s.held, looks); err != nil {
		return err
	}
	for _, id := range chunk {
		if _, is := e.settled[id]; !is {
			s.census[e.standing(id, slices.Contains(s.held[id], salt.Accepted))]++
		}
		e.rows.drop(id) // 10,000 of them are 9 MB, and good for some seconds only
	}
	if s.left = s.left[len(chunk):]; len(s.left) == 0 {
		e.endSweep()
	}
	return nil
}

func (e *Engine) beginSweep(ctx context.Context) error {
	s := &sweep{why: e.gap, begun: e.now(), wall: e.wall(), census: Census{}}
	var err error
	if s.held, err = e.held(); err != nil {
		return err
	}
	full := !s.begun.Before(e.compareFullAt)
	if full { // they are found again, if they are still so
		e.problems.forget(BadRow)
		e.problems.forget(BadStamp)
	}
	if err := e.takeChanged(ctx, s.held); err != nil {
		return err
	}
	ids := slices.Sorted(maps.Keys(s.held))
	s.keys, s.left = len(ids), e.unsettled(ids, s.held, full)
	for _, c := range e.courses {
		c.stale = true
	}
	e.sweep, e.gap = s, ""
	e.watchRemoved(s.held)
	return nil
}

func (e *Engine) endSweep() {
	s := e.sweep
	e.sweep = nil
	for id, settled := range e.settled {
		if _, here := s.held[id]; here {
			s.census[settled.standing]++
		} else {
			delete(e.settled, id)
		}
	}
	// A course without a key here is another master's, or over.
	for id, c := range e.courses {
		if _, here := s.held[id]; !here && c.opened.Before(s.begun) {
			delete(e.courses, id)
		}
	}
	e.tidyJobs(s.begun)
	e.audit.keep(func(id string) bool {
		_, here := s.held[id]
		return here || e.problems.has(KeyRemoved, id) // it is looked at, and told once
	})
	e.census = s.census
	e.beats.SetMinions(s.keys)
	e.comparedAt = s.wall
	if !s.begun.Before(e.compareFullAt) {
		e.compareFullAt = s.begun.Add(fullEvery)
	}
	e.took = e.now().Sub(s.begun)
	e.compareAt = s.begun.Add(e.cfg.CompareEvery)
	if s.why != "" {
		e.compareAt = s.begun.Add(afterGap)
	}
	if !e.compared {
		e.compared = true
		e.log.Info("keys and fleet compared", "why", s.why, "keys", s.keys, "census", s.census, "took", e.took)
	}
}

// standing is where the last look at id left it.
func (e *Engine) standing(id string, accepted bool) decide.Standing {
	if e.problems.has(BadRow, id) {
		return decide.Unreadable
	}
	if c := e.courses[id]; c != nil {
		return decide.Stand(c.Row, true, accepted)
	}
	l := e.rows.entries[id]
	return decide.Stand(l.row, l.found, accepted)
}

// Census counts the ids of one master's key store by where they stand.
type Census map[decide.Standing]int
