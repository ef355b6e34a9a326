package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
	"phoenix/bridge/salt"
)

// terminations is what is known of polls for terminated minions.
type terminations struct {
	pollAt time.Time
	fullAt time.Time // when a poll reads all again
	full   bool      // the next poll reads all
	read   watermark // of rows that say TERMINATE
}

// pollTerminated reads the minions that were terminated since the last time: a
// master that was down when they were learns of it here. What the index says is a
// hint: it may lag behind a name that was given anew.
func (e *Engine) pollTerminated(ctx context.Context) error {
	now, wall, since := e.now(), e.wall(), ""
	full := e.terminations.full || !now.Before(e.terminations.fullAt)
	if !full {
		since = e.terminations.read.since()
	}
	var listing keyListing
	var strip []fleet.Change
	err := e.eachRow(ctx, fleet.Terminate, since, func(rows []fleet.Minion) error {
		if listing == nil {
			var err error
			if listing, err = e.listKeys(); err != nil {
				return err
			}
		}
		for _, row := range rows {
			e.terminations.read.saw(row, wall)
			if c, due := fleet.ToTombstone(row, fleet.TombstoneAfter, wall); due {
				strip = append(strip, c)
			}
			e.terminatedRow(row, listing)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if since == "" {
		e.terminations.full, e.terminations.fullAt = false, now.Add(fullEvery)
	}
	e.terminations.read.readAt, e.terminations.pollAt = wall, now.Add(e.cfg.PollEvery)
	if len(strip) > 0 {
		e.runStage(ctx, stageTombstones, func(ctx context.Context) error { return e.writeTombstones(ctx, strip) })
	}
	return nil
}

// terminatedRow puts the keys of a terminated minion on the list of those to be
// deleted. It decides nothing: the row is read again before.
func (e *Engine) terminatedRow(row fleet.Minion, listing keyListing) {
	id := row.SaltID()
	if c := e.highstates[id]; c != nil && c.Row.InstanceID == row.InstanceID {
		c.stale, c.due = true, e.now()
	}
	delete(e.unchanged, id)
	e.names.learn(row)
	switch keys := listing[id]; {
	case len(keys) == 0:
	case e.cfg.Names == nil && !slices.Equal(keys, []salt.State{salt.Pending}):
		e.scheduleDeletion(id, row)
	default: // by a name, whose instance may be another by now; or a key to be unlinked
		e.rows.drop(id)
		e.queue.add(id, false)
	}
}

// writeTombstones makes tombstones of rows that were terminated long ago.
func (e *Engine) writeTombstones(ctx context.Context, due []fleet.Change) error {
	for chunk := range slices.Chunk(due, batch) {
		results, err := e.store.Apply(ctx, chunk)
		if err != nil {
			return fmt.Errorf("strip %s: %w", plural.Of(len(chunk), "terminated minion"), err)
		}
		for i, r := range results {
			if r.Err != nil { // revived, or pruned
				e.log.Debug("change did not apply", "minion", chunk[i].Instance(), "change", "strip", "err", r.Err)
			}
		}
	}
	return nil
}

// listKeys lists the key store, by id.
func (e *Engine) listKeys() (keyListing, error) {
	list, err := e.keys.List()
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	e.badFiles(list.Bad)
	listing := make(keyListing, len(list.Accepted)+len(list.Pending))
	for _, s := range []struct {
		state salt.State
		ids   []string
	}{{salt.Accepted, list.Accepted}, {salt.Pending, list.Pending}, {salt.Rejected, list.Rejected},
		{salt.Denied, list.Denied}} {
		for _, id := range s.ids {
			listing[id] = append(listing[id], s.state)
		}
	}
	return listing, nil
}

// badFiles reports what lies among the keys and is none.
func (e *Engine) badFiles(bad map[string]error) {
	e.problems.keep(BadEntry, bad)
	for _, id := range slices.Sorted(maps.Keys(bad)) {
		e.problem(BadEntry, id, bad[id])
	}
}
