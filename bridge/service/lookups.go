package service

import (
	"context"
	"fmt"
	"slices"
	"time"

	"phoenix/bridge/fleet"
)

// lookups remembers rows for a moment: those that need nothing done, and ids
// that have no row (an unknown minion knocks every 10 s, for ever).
type lookups struct {
	entries map[string]lookup
}

type lookup struct {
	row   fleet.Minion
	found bool
	until time.Time
}

// maxLookups bounds what strangers who knock under many names can make us keep.
const maxLookups = 10_000

func (l *lookups) reset() { l.entries = map[string]lookup{} }

func (l *lookups) drop(id string) { delete(l.entries, id) }

func (l *lookups) get(id string, now time.Time) (lookup, bool) {
	e, ok := l.entries[id]
	if ok && !now.Before(e.until) {
		delete(l.entries, id)
		ok = false
	}
	return e, ok
}

func (l *lookups) put(id string, e lookup) {
	if len(l.entries) >= maxLookups {
		l.reset()
	}
	e.row.PublicKey = "" // only the digest decides; a key is 450 to 800 bytes
	l.entries[id] = e
}

// look reads the rows of ids: from courses and memory where they are good
// enough, the rest in one read. bad are rows that cannot be decoded. Ids whose
// instance cannot be found out now are in neither; unnamed is told of each.
func (e *Engine) look(ctx context.Context, ids []string, unnamed func(id string)) (rows map[string]lookup, bad map[string]error, err error) {
	now := e.now()
	rows, bad = make(map[string]lookup, len(ids)), map[string]error{}
	var missing []string
	for _, id := range ids {
		if c := e.courses[id]; c != nil && !c.stale {
			rows[id] = lookup{row: c.Row, found: true}
		} else if l, ok := e.rows.get(id, now); ok {
			rows[id] = l
		} else {
			missing = append(missing, id)
		}
	}
	for chunk := range slices.Chunk(missing, batch) {
		var instances map[string]string
		if !e.work(ctx, stageNames, func(ctx context.Context) (err error) {
			if instances, err = e.names.instances(ctx, chunk); err != nil {
				err = fmt.Errorf("resolve %d minion ids: %w", len(chunk), err)
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
			return nil, nil, fmt.Errorf("look up %d minions: %w", len(chunk), err)
		}
		for _, id := range chunk {
			if fault := faulty[instances[id]]; fault != nil {
				bad[id] = fault
				continue
			}
			row, there := found[instances[id]]
			l := lookup{row: row, found: there, until: now.Add(knownFor)}
			if !there {
				l.until = now.Add(e.cfg.UnknownFor)
			}
			e.saw(id, l)
			rows[id] = l
		}
	}
	return rows, bad, nil
}

// readRows reads rows as they are now. bad are those that cannot be decoded, by
// instance.
func (e *Engine) readRows(ctx context.Context, instances []string) (rows map[string]fleet.Minion, bad map[string]error, err error) {
	rows, err = e.store.Minions(ctx, instances)
	bad, err = fleet.WithoutBadRows(err)
	return rows, bad, err
}

// saw takes in a row that was read or that came back from a write.
func (e *Engine) saw(id string, l lookup) {
	now := e.now()
	e.names.learn(l.row)
	c := e.courses[id]
	if c != nil && l.found && c.Row.InstanceID != l.row.InstanceID {
		delete(e.courses, id) // the name is another's by now
		c = nil
	}
	if c != nil && l.found {
		l.row.PublicKey = "" // see lookups.put
		c.Saw(l.row, now)
		e.inbox.hear(l.row.ClaimJID)
		c.stale, c.due = false, time.Time{}
		return
	}
	if l.until.IsZero() {
		l.until = now.Add(knownFor)
	}
	e.rows.put(id, l)
}
