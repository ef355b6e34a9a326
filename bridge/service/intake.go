package service

import (
	"maps"
	"slices"
	"time"

	"phoenix/bridge/fleet"
)

// drainInbox records what has gathered. It asks nobody for anything.
func (e *Engine) drainInbox() {
	w := e.inbox.drain()
	if e.clock.stepped(e.now(), e.wall()) {
		// Rows are found by when they were written. With a clock that was off, those
		// written since may have been passed over.
		e.log.Warn("clock was changed; reading all terminations and changes again")
		e.terminations.full, e.resyncs.fullAt, e.terminations.pollAt, e.resyncs.at = true, time.Time{},
			time.Time{}, time.Time{}
		e.preloaded = false
	}
	for id, row := range w.upserts {
		if !w.invalid[id] && e.applyUpsert(row) {
			continue
		}
		w.invalid[id] = true
	}
	for id := range w.invalid {
		if name := e.names.of(id); name != id {
			e.invalidate(name)
			w.ids[name] = w.ids[name] || w.ids[id]
		}
		e.invalidate(id)
	}
	for id := range w.authed {
		if c := e.highstates[id]; c != nil {
			c.Authenticated(e.now())
			c.due = time.Time{}
		}
	}
	e.handleReturns(w.returns, e.now())
	for _, id := range slices.Sorted(maps.Keys(w.ids)) { // sorted: the same work gives the same calls
		if e.queue.len() >= 2*maxQueued { // the store is away, or ids come faster than they are worked off
			e.inbox.overflow(len(w.ids))
			w.gap = overflowReason
			break
		}
		e.queue.add(id, w.ids[id])
	}
	maps.Copy(e.restoring, w.restore)
	if w.gap != "" {
		e.resyncs.gap = w.gap
	}
}

// applyUpsert uses a row that a message wrote as if it was read, and reports whether
// it did: the row must be newer than the known one. It is if none was known, or if it
// is terminated, which is final.
func (e *Engine) applyUpsert(row fleet.Minion) bool {
	id := row.InstanceID
	known, found := e.rows.get(id, e.now())
	if e.cfg.Names != nil || e.highstates[id] != nil || found && known.found {
		if e.cfg.Names != nil || row.Status != fleet.Terminate {
			return false
		}
	}
	delete(e.missingProofs, id)
	e.updateRow(id, cachedRow{row: row, found: true})
	return true
}

// invalidate drops what is remembered of a row that somebody else changed.
func (e *Engine) invalidate(id string) {
	delete(e.missingProofs, id)
	delete(e.unchanged, id)
	e.forgetRow(id)
}

// forgetRow has the row of an id read again before anything is decided on it.
func (e *Engine) forgetRow(id string) {
	e.rows.drop(id)
	if c := e.highstates[id]; c != nil {
		c.stale, c.due = true, time.Time{}
	}
}
