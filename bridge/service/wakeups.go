package service

import "time"

func (e *Engine) nextDue(now time.Time) time.Time {
	compareAt := e.resyncs.at
	if e.resyncs.running != nil || e.resyncs.gap != "" {
		compareAt = now
	}
	next := e.stageDueAt(stageComparison, compareAt)
	sooner := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	sooner(e.stageDueAt(stageTerminations, e.terminations.pollAt))
	if !e.preloaded || len(e.restoring) > 0 {
		sooner(e.stageDueAt(stagePreload, now))
	}
	if e.acceptsAhead() {
		sooner(e.stageDueAt(stageLaunches, e.launches.pollAt))
		for _, x := range e.launches.expected {
			sooner(e.stageDueAt(stageMinions, x.due))
		}
	}
	if e.queue.any() {
		sooner(e.stageDueAt(stageMinions, now))
	}
	if !e.queue.laterAt.IsZero() {
		sooner(e.stageDueAt(stageMinions, e.queue.laterAt))
	}
	for _, c := range e.highstates {
		if !c.queued {
			sooner(e.stageDueAt(stageHighstates, c.due))
		}
	}
	if e.breakerOpen() != "" {
		sooner(e.breaker.pollAt)
	}
	if e.recount && e.resyncs.done {
		sooner(e.recountAt)
	}
	if len(e.deletes) > 0 {
		sooner(e.stageDueAt(stageDeletes, e.deleteAt))
	}
	return next
}
