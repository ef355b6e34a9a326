package service

import (
	"context"
	"fmt"
	"slices"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// rowCache remembers rows for a moment: those that need nothing done, and ids
// that have no row (an unknown minion asks to be accepted every 10 s, for ever).
type rowCache struct {
	entries map[string]cachedRow
}

type cachedRow struct {
	row   fleet.Minion
	found bool
	until time.Time
}

// maxCached bounds what strangers who ask under many names can make us keep.
const maxCached = 10_000

func (l *rowCache) reset() { l.entries = map[string]cachedRow{} }

func (l *rowCache) drop(id string) { delete(l.entries, id) }

func (l *rowCache) get(id string, now time.Time) (cachedRow, bool) {
	e, ok := l.entries[id]
	if ok && !now.Before(e.until) {
		delete(l.entries, id)
		ok = false
	}
	return e, ok
}

func (l *rowCache) put(id string, e cachedRow) {
	if len(l.entries) >= maxCached {
		l.reset()
	}
	e.row.PublicKey = "" // only the digest decides; a key is 450 to 800 bytes
	l.entries[id] = e
}

// lookupRows reads the rows of ids: from highstates and memory where they are good
// enough, the rest in one read. bad are rows that cannot be decoded. Ids whose
// instance cannot be found out now are in neither; unnamed is called for each.
func (e *Engine) lookupRows(ctx context.Context, ids []string,
	unnamed func(id string)) (rows map[string]cachedRow, bad map[string]error, err error) {
	now := e.now()
	rows, bad = make(map[string]cachedRow, len(ids)), map[string]error{}
	var missing []string
	for _, id := range ids {
		if c := e.highstates[id]; c != nil && !c.stale {
			rows[id] = cachedRow{row: c.Row, found: true}
		} else if l, ok := e.rows.get(id, now); ok {
			rows[id] = l
		} else {
			missing = append(missing, id)
		}
	}
	for chunk := range slices.Chunk(missing, batch) {
		var instances map[string]string
		if !e.runStage(ctx, stageNames, func(ctx context.Context) (err error) {
			if instances, err = e.names.instances(ctx, chunk); err != nil {
				err = fmt.Errorf("resolve %s: %w", plural.Of(len(chunk), "minion id"), err)
			}
			return err
		}) {
			for _, id := range chunk {
				unnamed(id)
			}
			continue
		}
		wanted := make([]string, 0, len(instances))
		for _, id := range chunk {
			if instance := instances[id]; instance != "" {
				wanted = append(wanted, instance)
			}
		}
		found, faulty, err := e.readRows(ctx, wanted)
		if err != nil {
			return nil, nil, fmt.Errorf("look up %s: %w", plural.Of(len(chunk), "minion"), err)
		}
		for _, id := range chunk {
			if fault := faulty[instances[id]]; fault != nil {
				bad[id] = fault
				continue
			}
			row, there := found[instances[id]]
			if there && e.otherName(id, row) {
				row, there = fleet.Minion{}, false
			}
			l := cachedRow{row: row, found: there, until: now.Add(knownFor)}
			if !there {
				l.until = now.Add(e.cfg.UnknownFor)
			}
			e.updateRow(id, l)
			rows[id] = l
		}
	}
	return rows, bad, nil
}

// otherName reports whether a row is bound to another id than this one, which names the
// same instance.
func (e *Engine) otherName(id string, row fleet.Minion) bool {
	return e.cfg.FirstName && row.MinionID != "" && row.MinionID != id
}

// readRows reads rows as they are now. bad are those that cannot be decoded, by
// instance.
func (e *Engine) readRows(ctx context.Context,
	instances []string) (rows map[string]fleet.Minion, bad map[string]error, err error) {
	rows, err = e.store.Minions(ctx, instances)
	bad, err = fleet.WithoutBadRows(err)
	return rows, bad, err
}

// updateRow records a row that was read or that came back from a write.
func (e *Engine) updateRow(id string, l cachedRow) {
	now := e.now()
	e.names.learn(l.row)
	if l.found {
		e.expect(l.row)
	}
	c := e.highstates[id]
	if c != nil && l.found && c.Row.InstanceID != l.row.InstanceID {
		delete(e.highstates, id) // the name is another's by now
		c = nil
	}
	if c != nil && l.found {
		l.row.PublicKey = "" // see lookups.put
		c.UpdateRow(l.row, now)
		e.inbox.subscribe(l.row.ClaimJID)
		c.stale, c.due = false, time.Time{}
		if c.anew {
			e.queue.add(id, false) // is the new key accepted here?
		}
		return
	}
	if l.until.IsZero() {
		l.until = now.Add(knownFor)
	}
	e.rows.put(id, l)
}
