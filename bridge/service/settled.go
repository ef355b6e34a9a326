package service

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// settled are ids for which nothing is left to be done: one key, accepted, and
// either the right one of a minion whose highstate ran or is not ours to run, or
// one that the fleet does not list. As long as neither key nor row changes, a
// comparison need not read the row: of a fleet of 100,000 that is all but a few,
// and each read is paid for.
//
// The key is read each time. A row that changes has a new Modified: those that
// say LAUNCH are listed behind the last comparison, those that say TERMINATE by
// pollTerminated. From time to time all are read; see fullEvery.
type settled map[string]settledID

type settledID struct {
	key      [8]byte // the digest's first bytes, which nobody can meet by chance
	standing decide.Standing
}

// settle takes in what a look at an id has led to.
func (e *Engine) settle(id string, v *keyView) {
	delete(e.settled, id)
	if e.cfg.Names != nil || e.courses[id] != nil || !v.Accepted.Present || v.Accepted.Digest == "" ||
		v.Pending.Present || v.Rejected.Present || v.Denied.Present || v.decision.Act != decide.LeaveKey {
		return
	}
	if v.Known && (v.Row.Status != fleet.Launch || v.Row.WantsHighstate()) {
		return
	}
	e.settled[id] = settledID{shortKey(v.Accepted.Digest), decide.Stand(v.Row, v.Known, true)}
}

func shortKey(digest string) (key [8]byte) {
	_, _ = hex.Decode(key[:], []byte(digest[:2*len(key)])) // fleet.KeyDigest is hexadecimal
	return key
}

// unsettled gives the ids that a comparison must look at, of those that the key
// store holds.
func (e *Engine) unsettled(ctx context.Context, ids []string, held holding) ([]string, error) {
	now := e.now()
	if now.Before(e.compareFullAt) {
		// Rows that have changed since, by clocks of other hosts.
		since := fleet.FormatTime(e.comparedAt.Add(-overlap))
		err := e.store.ByStatus(ctx, fleet.Launch, since, func(rows []fleet.Minion) error {
			for _, row := range rows {
				delete(e.settled, row.Salt())
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read minions that changed: %w", err)
		}
	} else {
		clear(e.settled)
	}
	left := slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		s, found := e.settled[id]
		return found && len(held[id]) == 1 && held[id][0] == salt.Accepted && e.sameKey(id, s.key)
	})
	return left, nil
}

func (e *Engine) sameKey(id string, key [8]byte) bool {
	text, err := e.keys.Read(id, salt.Accepted)
	if err != nil {
		return false
	}
	digest, err := fleet.KeyDigest(text)
	return err == nil && shortKey(digest) == key
}
