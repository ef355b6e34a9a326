package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
	"phoenix/bridge/salt"
)

// deleteKeys deletes the keys of terminated minions, a batch a minute at most.
//
// What led here may be old: an index lags, and a name may have been given to a
// living minion since. So the rows are read again just before, and the key store
// just after: Salt says nothing of a file that it could not remove (3006.28,
// 3007.15, 3008.3; tried).
func (e *Engine) deleteKeys(ctx context.Context) error {
	if len(e.deletes) == 0 {
		return nil
	}
	ids := e.nextDeletions()
	views, err := e.viewsToDelete(ctx, ids)
	if err != nil {
		return err
	}
	keys := map[salt.State][]string{}
	for _, id := range ids {
		if views[id] == nil {
			continue
		}
		for state, key := range views[id].deletable() {
			if key.Present {
				keys[state] = append(keys[state], id)
			}
		}
	}
	if len(keys) > 0 {
		// Before the call: one that runs out of time may have been carried out.
		e.deleteAt = e.now().Add(deleteEvery)
		if err := e.master.Delete(ctx, keys); err != nil {
			return e.deleteFailed(ids, err)
		}
		e.deleteSize = min(2*e.deleteSize, deleteBatch)
	}
	for _, id := range ids {
		if v := views[id]; v != nil {
			e.checkDeleted(id, v)
		}
	}
	return nil
}

// nextDeletions returns the ids of the next call. One for which the master has refused a
// call comes after all others, and alone: it would have theirs refused.
func (e *Engine) nextDeletions() []string {
	var ids, refused []string
	for _, id := range slices.Sorted(maps.Keys(e.deletes)) {
		if s := e.undeletable[id]; s != nil && s.refused {
			refused = append(refused, id)
		} else {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return refused[:1]
	}
	return ids[:min(len(ids), e.deleteSize)]
}

// viewsToDelete reads rows and keys of ids that were found terminated, and gives
// those whose keys are still to be deleted. The others are taken off the list.
func (e *Engine) viewsToDelete(ctx context.Context, ids []string) (map[string]*keyView, error) {
	instances := make(map[string]string, len(ids))
	for _, id := range ids {
		instances[id] = e.deletes[id].InstanceID
	}
	rows, bad, err := e.readRows(ctx, slices.Collect(maps.Values(instances)))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", plural.Of(len(ids), "terminated minion"), err)
	}
	views := make(map[string]*keyView, len(ids))
	for _, id := range ids {
		if fault := bad[instances[id]]; fault != nil {
			e.problem(BadRow, id, fault)
			e.postponeDeletion(id)
			continue
		}
		v, err := e.view(id, nil)
		if err != nil {
			e.problem(BadKey, id, err)
			e.postponeDeletion(id)
			continue
		}
		v.Row, v.Known = rows[instances[id]], rows[instances[id]].InstanceID != ""
		v.Former, v.Wrong = e.names.former(id, v.Accepted.Digest), e.isWrong(v)
		if v.decision = decide.Keys(e.cfg.Admit, v.KeyView); !v.deletes() || e.anothersKey(v) {
			// Revived, another's key by now, or gone: decide from the current state.
			e.replacedMeanwhile(v)
			e.cancelDeletion(id)
			e.rows.drop(id)
			e.queue.add(id, false)
			continue
		}
		views[id] = v
	}
	return views, nil
}

// replacedMeanwhile finishes a replacement whose call failed and was carried out
// nevertheless: the bound key is still to be written.
func (e *Engine) replacedMeanwhile(v *keyView) {
	if _, listed := e.deletes[v.ID]; listed && !v.Accepted.Present && v.Row.Status == fleet.Launch &&
		v.Row.ReplacedSHA256 != "" {
		e.audit.Replaced(v.ID, v.Row.ReplacedSHA256, v.Row)
		e.restoring[v.ID] = true
	}
}

// anothersKey reports whether the accepted key of a name is not one that its
// terminated instance had: where names are used again (id_from), it may be that of
// a running instance, which only EC2 knows.
func (e *Engine) anothersKey(v *keyView) bool {
	return e.cfg.Names != nil && v.decision.Act != decide.ReplaceKey && v.Accepted.Present && !v.Former && !v.Wrong &&
		v.Accepted.Digest != v.Row.KeySHA256
}

// deletes reports whether keys are to be deleted by a call of the master.
func (v *keyView) deletes() bool {
	return v.decision.Act == decide.DeleteKeys || v.decision.Act == decide.ReplaceKey
}

// deletable returns the keys that a call of the master deletes. A pending one is
// unlinked: that rotates nothing.
func (v *keyView) deletable() map[salt.State]decide.Key {
	switch {
	case v.decision.Rule == decide.RuleWrongKey:
		return map[salt.State]decide.Key{salt.Accepted: v.Accepted}
	case v.decision.Act == decide.ReplaceKey:
		keys := map[salt.State]decide.Key{salt.Accepted: v.Accepted}
		if v.Denied.Digest == v.Row.KeySHA256 { // it is denied no more
			keys[salt.Denied] = v.Denied
		}
		return keys
	}
	return map[salt.State]decide.Key{salt.Accepted: v.Accepted, salt.Rejected: v.Rejected, salt.Denied: v.Denied}
}

// checkDeleted reads what became of the keys of one minion.
func (e *Engine) checkDeleted(id string, v *keyView) {
	for state, key := range v.deletable() {
		if !key.Present {
			continue
		}
		text, err := e.keys.Read(id, state)
		if digest, _ := fleet.KeyDigest(text); err == nil && v.decision.Act == decide.ReplaceKey && digest != "" &&
			digest != key.Digest {
			continue // an administrator's command, or the minion's next request, was quicker
		}
		if !errors.Is(err, salt.ErrNoKey) {
			e.problem(Undeletable, id, fmt.Errorf("its %s key is still there after the master was told to delete it",
				state))
			e.postponeDeletion(id)
			return
		}
	}
	e.cancelDeletion(id)
	e.forgetAccepted(id)
	e.recount = true
	if v.decision.Act == decide.ReplaceKey {
		e.audit.Replaced(id, v.Accepted.Digest, v.Row)
		e.restoring[id] = true // a row without the key's text: its minion's next request brings it
		return
	}
	e.audit.Deleted(id, v.decision.Rule, v.Row)
}

// deleteFailed records that a call that deletes keys failed. One that the master
// refuses is halved, so that the bad one is alone in the end; those that follow grow again.
func (e *Engine) deleteFailed(ids []string, err error) error {
	switch {
	case !errors.Is(err, salt.ErrRefused):
	case len(ids) > 1:
		e.deleteSize = len(ids) / 2
	default:
		e.problem(Undeletable, ids[0], err)
		e.postponeDeletion(ids[0])
		e.undeletable[ids[0]].refused = true
		return nil
	}
	return fmt.Errorf("delete keys of %s: %w", plural.Of(len(ids), "minion"), err)
}

// pause is a wait that grows.
type pause struct {
	until   time.Time
	wait    time.Duration
	refused bool // by the master, which then deletes no other key of the call
}

// undeletableMost: a key that cannot be deleted costs a rotation of the master's AES key
// each time that it is tried.
const undeletableMost = time.Hour

// postponeDeletion takes an id off the list of those to be deleted, for longer each time.
// The check that follows puts it there again.
func (e *Engine) postponeDeletion(id string) {
	delete(e.deletes, id)
	s := e.undeletable[id]
	if s == nil {
		s = &pause{wait: deleteEvery}
		e.undeletable[id] = s
	}
	s.until, s.wait = e.now().Add(s.wait), min(2*s.wait, undeletableMost)
	e.queue.postpone(id, false, s.until)
}

// scheduleDeletion puts an id on the list of those to be deleted. One that could not be
// deleted waits until it is tried again.
func (e *Engine) scheduleDeletion(id string, row fleet.Minion) {
	if s := e.undeletable[id]; s != nil && e.now().Before(s.until) {
		e.queue.postpone(id, false, s.until)
		return
	}
	e.deletes[id] = row
}

// cancelDeletion takes an id off the list of those to be deleted, for good.
func (e *Engine) cancelDeletion(id string) {
	delete(e.deletes, id)
	delete(e.undeletable, id)
	e.problems.over(Undeletable, id)
}
