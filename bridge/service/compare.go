package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// afterGap: a connection stands some milliseconds before the master sends on it,
// and what it has to say in between nobody hears.
const afterGap = 5 * time.Second

// compare looks at every id that this master holds a key for, so that no event
// that was lost, before the start, in a gap of the bus or ever, matters for
// longer than until the next comparison.
func (e *Engine) compare(ctx context.Context, why string) error {
	begun := e.now()
	held, err := e.held()
	if err != nil {
		return err
	}
	for _, c := range e.courses {
		c.stale = true
	}
	census := Census{}
	ids := slices.Sorted(maps.Keys(held))
	left, err := e.unsettled(ctx, ids, held)
	if err != nil {
		return err
	}
	defer e.rows.reset() // 10,000 of them are 9 MB, and good for some seconds only
	for chunk := range slices.Chunk(left, batch) {
		e.rows.reset() // what is remembered is no ground for a comparison
		if err := e.lookAtKeys(ctx, chunk, held, nil); err != nil {
			return err
		}
		for _, id := range chunk {
			if _, is := e.settled[id]; !is {
				l := e.standing(id)
				census[decide.Stand(l.row, l.found, slices.Contains(held[id], salt.Accepted))]++
			}
		}
	}
	for id, s := range e.settled {
		if _, here := held[id]; here {
			census[s.standing]++
		} else {
			delete(e.settled, id)
		}
	}
	// A course without a key here is another master's, or over.
	for id := range e.courses {
		if _, here := held[id]; !here {
			delete(e.courses, id)
		}
	}
	e.tidyJobs(begun)
	e.census = census
	if e.comparedAt = begun; !begun.Before(e.compareFullAt) {
		e.compareFullAt = begun.Add(fullEvery)
	}
	e.took = e.now().Sub(begun)
	e.compareAt = begun.Add(e.cfg.CompareEvery)
	if why != "" {
		e.compareAt = begun.Add(afterGap)
	}
	if !e.compared {
		e.compared = true
		e.log.Info("keys and fleet compared", "why", why, "keys", len(ids), "census", census, "took", e.now().Sub(begun))
	}
	return nil
}

// standing is the row that the last look at id left behind.
func (e *Engine) standing(id string) lookup {
	if c := e.courses[id]; c != nil {
		return lookup{row: c.Row, found: true}
	}
	return e.rows.entries[id]
}

// warm writes the known public key of each minion as accepted, so that a new
// master serves the fleet at its first knock, and an impostor who knocked first
// holds no place.
func (e *Engine) warm(ctx context.Context) error {
	begun, known, written := e.now(), 0, 0
	held, err := e.held()
	if err != nil {
		return err
	}
	err = e.store.ByStatus(ctx, fleet.Launch, "", func(rows []fleet.Minion) error {
		keys := make(map[string][]byte, len(rows))
		for _, row := range rows {
			e.names.learn(row)
			id := row.Salt()
			if row.PublicKey == "" || !e.cfg.ValidID(id) ||
				slices.Contains(held[id], salt.Accepted) || slices.Contains(held[id], salt.Rejected) {
				continue // what this master has said of a key stands
			}
			if digest, err := fleet.KeyDigest([]byte(row.PublicKey)); err != nil || digest != row.KeySHA256 {
				e.log.Error("stored key passed over: it is not the one bound to the row", "minion", id, "bound", row.KeySHA256)
				continue
			}
			keys[id] = []byte(row.PublicKey)
		}
		known += len(keys)
		done, faults, err := e.keys.WriteAccepted(keys)
		written += len(done)
		for _, id := range slices.Sorted(maps.Keys(faults)) {
			e.log.Warn("known key left out", "minion", id, "err", faults[id]) // the comparison reports each
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("write known keys: %w", err)
	}
	e.log.Info("known keys are in place", "known", known, "written", written, "took", e.now().Sub(begun))
	return nil
}

// Census counts the ids of one master's key store by where they stand.
type Census map[decide.Standing]int
