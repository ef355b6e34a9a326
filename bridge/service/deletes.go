package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

const (
	// overlap: rows are read again for that long behind the newest seen, since
	// other hosts' clocks write Modified and an index may lag.
	overlap = 15 * time.Minute
	// fullEvery: from time to time all terminations are read.
	fullEvery = time.Hour
)

// pollTerminated looks at minions that were terminated since the last time: a
// master that was down when they were learns of it here.
func (e *Engine) pollTerminated(ctx context.Context) error {
	now := e.now()
	since, newest := "", e.terminated
	if at, err := fleet.ParseTime(newest); err == nil && now.Before(e.fullAt) {
		since = fleet.FormatTime(at.Add(-overlap))
	}
	var held holding
	var strip []fleet.Change
	err := e.store.ByStatus(ctx, fleet.Terminate, since, func(rows []fleet.Minion) error {
		if held == nil {
			var err error
			if held, err = e.held(); err != nil {
				return err
			}
		}
		var ids []string
		for _, row := range rows {
			newest = max(newest, row.Modified)
			if c, due := fleet.ToStrip(row, fleet.StripAfter, now); due {
				strip = append(strip, c)
			}
			id := row.Salt()
			if c := e.courses[id]; c != nil && c.Row.InstanceID == row.InstanceID {
				delete(e.courses, id)
			}
			delete(e.settled, id)
			if len(held[id]) == 0 {
				continue
			}
			ids = append(ids, id)
			if e.names.learn(row); e.cfg.Names == nil {
				e.saw(id, lookup{row: row, found: true})
			} else {
				e.rows.drop(id) // the name may be another's by now
			}
		}
		return e.lookAtKeys(ctx, ids, held, nil)
	})
	if err != nil {
		return fmt.Errorf("read terminated minions: %w", err)
	}
	if err := e.strip(ctx, strip); err != nil {
		return err
	}
	if since == "" {
		e.fullAt = now.Add(fullEvery)
	}
	e.polled = true
	e.terminated, e.pollAt = newest, now.Add(e.cfg.PollEvery)
	return nil
}

// deleteKeys deletes the keys of terminated minions, a batch a minute at most.
func (e *Engine) deleteKeys(ctx context.Context) error {
	now := e.now()
	if len(e.deletes) == 0 || now.Before(e.deleteAt) {
		e.tellCleared()
		return nil
	}
	ids := slices.Sorted(maps.Keys(e.deletes))
	keys := map[salt.State][]string{}
	var gone []string
	n := 0
	for _, id := range ids {
		v, err := e.view(id, nil)
		if err != nil {
			e.audit.Unreadable(id, err)
			e.polled = false // it may be there, whatever comes of the others
			continue
		}
		if e.deletes[id].Status != fleet.Terminate && !e.names.former(id, v.Accepted.Digest) {
			continue // another's key by now
		}
		gone = append(gone, id)
		for state, key := range map[salt.State]bool{
			salt.Accepted: v.Accepted.Present, salt.Rejected: v.Rejected.Present, salt.Denied: v.Denied.Present,
		} {
			if key {
				keys[state] = append(keys[state], id)
				n++
			}
		}
	}
	if n > 0 {
		if err := e.master.Delete(ctx, keys); err != nil {
			return fmt.Errorf("delete %d keys: %w", n, err)
		}
		e.deleteAt = now.Add(deleteEvery)
	}
	for _, id := range gone {
		e.audit.Deleted(id, e.deletes[id])
	}
	clear(e.deletes) // a comparison finds again what is left
	e.tellCleared()
	return nil
}

// tellCleared tells the other masters once what was terminated has no key here:
// an instance that a lifecycle hook holds may go then.
func (e *Engine) tellCleared() {
	if e.polled && len(e.deletes) == 0 {
		e.polled = false
		e.beats.Cleared()
	}
}

// held lists the key store, by id.
func (e *Engine) held() (holding, error) {
	list, err := e.keys.List()
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	held := make(holding, len(list.Accepted)+len(list.Pending))
	for state, ids := range map[salt.State][]string{
		salt.Accepted: list.Accepted, salt.Pending: list.Pending,
		salt.Rejected: list.Rejected, salt.Denied: list.Denied,
	} {
		for _, id := range ids {
			held[id] = append(held[id], state)
		}
	}
	return held, nil
}
