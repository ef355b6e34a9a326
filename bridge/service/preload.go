package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
	"phoenix/bridge/salt"
)

// preloadKeys writes the known public key of each minion as accepted, so that a new
// master serves the fleet at its first auth request, and an impostor that asked first
// holds no place.
func (e *Engine) preloadKeys(ctx context.Context) error {
	begun, known, before := e.now(), 0, e.audit.counters.preloaded.Load()
	listing, err := e.listKeys()
	if err != nil {
		return err
	}
	err = e.eachRow(ctx, fleet.Launch, "", func(rows []fleet.Minion) error {
		for _, row := range rows {
			e.names.learn(row)
			e.expect(row)
			if row.PublicKey != "" {
				known++
			}
		}
		return e.writeAccepted(rows, listing)
	})
	if err != nil {
		return err
	}
	e.log.Info("known keys written", "known", known,
		"written", e.audit.counters.preloaded.Load()-before, "took", e.now().Sub(begun))
	return nil
}

// writeAccepted writes the bound keys of rows as accepted where this master has none
// of them yet. What keeps one key from being written is a problem of its own; the
// error is for what keeps all from it, such as a full disk.
func (e *Engine) writeAccepted(rows []fleet.Minion, listing keyListing) error {
	keys := map[string][]byte{}
	digests := map[string]string{}
	for _, row := range rows {
		id := row.SaltID()
		if row.Status != fleet.Launch || row.PublicKey == "" || !e.cfg.ValidID(id) ||
			slices.Contains(listing[id], salt.Accepted) || slices.Contains(listing[id], salt.Rejected) {
			continue // what this master has said of a key stands
		}
		if digest, err := fleet.KeyDigest([]byte(row.PublicKey)); err != nil || digest != row.KeySHA256 {
			e.problem(BadRow, id, fmt.Errorf("its public_key is not the key bound to it, %s", row.KeySHA256))
			continue
		}
		if e.removedByHand(id, row) {
			e.queue.add(id, false) // it says so; see Keys
			continue
		}
		keys[id], digests[id] = []byte(row.PublicKey), row.KeySHA256
	}
	if len(keys) == 0 {
		return nil
	}
	written, faults, err := e.keys.WriteAccepted(keys)
	e.recount = e.recount || len(written) > 0
	for _, id := range written {
		e.accepted.Add(id, digests[id])
		e.cancelDeletion(id) // by the name of a former machine
		listing[id] = append(listing[id], salt.Accepted)
		e.audit.Preloaded()
		if slices.Contains(listing[id], salt.Pending) {
			e.queue.add(id, false) // on 3008 a pending key hides the accepted one
		}
	}
	for _, id := range slices.Sorted(maps.Keys(faults)) {
		if errors.Is(faults[id], salt.ErrOtherKey) {
			e.queue.add(id, false) // the rules say what to do about it
			continue
		}
		e.problem(BadKey, id, faults[id])
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", plural.Of(len(keys), "known key"), err)
	}
	return nil
}

// restore writes keys again that were deleted here by hand, as an admin asks.
func (e *Engine) restore(ctx context.Context) error {
	ids := slices.Sorted(maps.Keys(e.restoring))
	ids = ids[:min(len(ids), batch)]
	instances, err := e.names.instances(ctx, ids)
	if err != nil {
		return fmt.Errorf("resolve %s: %w", plural.Of(len(ids), "minion id"), err)
	}
	rows, bad, err := e.readRows(ctx, slices.Collect(maps.Values(instances)))
	if err != nil {
		return fmt.Errorf("read %s: %w", plural.Of(len(ids), "minion"), err)
	}
	for _, id := range ids {
		delete(e.restoring, id)
		e.forgetAccepted(id)
		e.rows.drop(id)
		if fault := bad[instances[id]]; fault != nil {
			e.problem(BadRow, id, fault)
		}
		e.queue.add(id, false)
	}
	return e.writeAccepted(slices.Collect(maps.Values(rows)), keyListing{})
}

// checkRemoved checks minions whose keys were accepted here and are gone: the
// event of a deletion by hand may have been lost.
func (e *Engine) checkRemoved(listing keyListing) {
	var gone []string
	for id := range e.accepted.IDs() {
		if len(listing[id]) == 0 {
			gone = append(gone, id)
		}
	}
	slices.Sort(gone) // the same work gives the same calls
	for _, id := range gone[:min(len(gone), maxQueued)] {
		e.queue.add(id, false)
	}
}

// eachRow hands rows of a status to fn. Those that cannot be decoded, or are
// stamped ahead of our clock, are reported; they keep no others from fn.
func (e *Engine) eachRow(ctx context.Context, status fleet.Status, since string, fn func([]fleet.Minion) error) error {
	bad, err := fleet.WithoutBadRows(e.store.ByStatus(ctx, status, since, func(rows []fleet.Minion) error {
		for _, row := range rows {
			if future(row, e.wall()) {
				e.problem(BadStamp, row.SaltID(),
					fmt.Errorf("its row is stamped %s, ahead of this host's clock", row.Modified))
			}
		}
		return fn(rows)
	}))
	for _, id := range slices.Sorted(maps.Keys(bad)) {
		e.problem(BadRow, e.names.of(id), bad[id])
	}
	if err != nil {
		return fmt.Errorf("read minions of status %s: %w", status, err)
	}
	return nil
}
