package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// keyListing says in which states the key store holds a key, by id.
type keyListing map[string][]salt.State

// processIDs checks the keys of ids (true: just connected here), does what is to
// be done about them, and tracks the highstate of each that still needs it.
func (e *Engine) processIDs(ctx context.Context, connected map[string]bool) error {
	// sorted: the same work gives the same calls
	return e.processKeys(ctx, slices.Sorted(maps.Keys(connected)), nil, connected)
}

// processKeys processes one batch. listing is a listing of the key store, or nil to ask
// it for each id. What one id lacks (a key that can be read, a row that can be decoded,
// a name, a proof) does not delay other ids; the error is for what all of them need,
// which is the store.
func (e *Engine) processKeys(ctx context.Context, ids []string, listing keyListing, connected map[string]bool) error {
	e.recount = e.recount || listing == nil // an event; a comparison counts them itself
	views := e.views(ids, listing, connected)
	if err := e.addRows(ctx, views, connected); err != nil {
		return err
	}
	ids = slices.Sorted(maps.Keys(views)) // those that can be decided on
	e.readProofs(ctx, ids, views, connected)
	var accept, bind []*keyView
	for _, id := range ids {
		v := views[id]
		v.decision = decide.Keys(e.cfg.Admit, v.KeyView)
		e.audit.Key(id, v.decision, v.Pending.Digest, v.Row)
		e.repairKey(v)
		e.listForDeletion(v)
		if err := e.unlink(v); err != nil {
			e.retryLater(id, connected[id], err)
			delete(views, id)
			continue
		}
		switch {
		case v.decision.Act == decide.AcceptKey && v.Row.KeySHA256 == v.Pending.Digest:
			accept = append(accept, v)
		case v.decision.Act == decide.AcceptKey, v.decision.Act == decide.BindKey, v.decision.Act == decide.AdoptKey,
			v.decision.Act == decide.WriteKey:
			bind = append(bind, v)
		}
	}
	bound, err := e.bind(ctx, bind)
	if err == nil {
		e.acceptAhead(bind) // before calls of the master, which take seconds
	}
	// Those that were bound before are accepted, whatever became of the others.
	e.accept(ctx, append(accept, bound...), connected)
	if err != nil {
		return err
	}
	for _, id := range ids {
		v := views[id]
		if v == nil || v.failed {
			continue
		}
		e.queue.done(id)
		e.removed(v)
		e.otherAccepted(v)
		e.trackHighstate(id, v, connected[id])
		e.markUnchanged(id, v)
	}
	return nil
}

// keyView is a decide.KeyView and the texts it was made from.
type keyView struct {
	decide.KeyView
	pendingText, acceptedText []byte
	proofText                 []byte // the public key of its proof
	acceptedFile              uint64 // see fileOf
	decision                  decide.KeyDecision
	failed                    bool   // it is checked again
	listed                    string // when its row listed it, if this is its first key
}

func (v *keyView) any() bool {
	return v.Pending.Present || v.Accepted.Present || v.Rejected.Present || v.Denied.Present
}

// views reads the keys of ids. One that cannot be read is checked again later.
func (e *Engine) views(ids []string, listing keyListing, connected map[string]bool) map[string]*keyView {
	views := make(map[string]*keyView, len(ids))
	for _, id := range ids {
		v, err := e.view(id, listing)
		switch {
		case errors.Is(err, salt.ErrUnsettled):
			e.queue.postpone(id, connected[id], e.now().Add(unstableFor))
		case err != nil:
			e.retryLater(id, connected[id], err)
		default:
			e.problems.over(BadKey, id)
			views[id] = v
		}
	}
	return views
}

// retryLater records that nothing can be decided on one id.
func (e *Engine) retryLater(id string, connected bool, err error) {
	e.problem(BadKey, id, err)
	e.queue.retry(id, connected, e.now())
}

// view reads the keys of one id. Keys come from the key store, never from an
// event: anybody can send one.
func (e *Engine) view(id string, listing keyListing) (*keyView, error) {
	v := &keyView{KeyView: decide.KeyView{ID: id, Valid: e.cfg.ValidID(id)}}
	if listing != nil && (e.accepted.Knows(id) || e.wrong[id] != "") && !slices.Contains(listing[id], salt.Accepted) {
		listing = nil // it may have been accepted since the listing
	}
	if !v.Valid {
		v.Pending.Present = true // of some kind; nobody reads a path made of such an id
		return v, nil
	}
	for _, k := range []struct {
		state salt.State
		key   *decide.Key
		text  *[]byte
	}{
		{salt.Pending, &v.Pending, &v.pendingText},
		{salt.Accepted, &v.Accepted, &v.acceptedText},
		{salt.Rejected, &v.Rejected, nil},
		{salt.Denied, &v.Denied, nil},
	} {
		if listing != nil && !slices.Contains(listing[id], k.state) {
			continue
		}
		if k.state == salt.Accepted {
			v.acceptedFile = e.fileOf(id)
		}
		text, err := e.keys.Read(id, k.state)
		if errors.Is(err, salt.ErrNoKey) && listing != nil {
			return e.view(id, nil) // the listing is old: it may lie in another state by now
		}
		if errors.Is(err, salt.ErrNoKey) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s key %s: %w", k.state, id, err)
		}
		k.key.Present = true
		k.key.Digest, _ = fleet.KeyDigest(text) // no RSA key: no digest, and a rule for it
		if k.text != nil {
			*k.text = text
		}
	}
	return v, nil
}

// addRows adds what the fleet knows of each id. Those of which it cannot be said
// now are taken out, and are checked again.
func (e *Engine) addRows(ctx context.Context, views map[string]*keyView, connected map[string]bool) error {
	var known []string
	for _, id := range slices.Sorted(maps.Keys(views)) {
		if e.differs(views[id]) {
			e.forgetRow(id)
		}
		// Of an id without a key only one thing is asked: was it deleted by hand?
		if v := views[id]; v.Valid && (v.any() || e.accepted.Knows(id) || e.launches.expected[id] != nil) {
			known = append(known, id)
		}
	}
	rows, bad, err := e.lookupRows(ctx, known,
		func(id string) { e.queue.postpone(id, connected[id], e.stageDueAt(stageNames, e.now())) })
	if err != nil {
		return err
	}
	for _, id := range known {
		v, l, found := views[id], rows[id], false
		if l, found = rows[id]; !found {
			delete(views, id)
			if fault := bad[id]; fault != nil {
				e.problem(BadRow, id, fault)
				e.queue.retry(id, connected[id], e.now())
			}
			continue
		}
		e.problems.over(BadRow, id)
		v.Row, v.Known = l.row, l.found
		v.Former, v.Wrong = e.names.former(id, v.Accepted.Digest), e.isWrong(v)
		v.Removed = v.Known && !v.Accepted.Present && e.removedByHand(id, v.Row)
	}
	return nil
}

// differs reports whether the accepted key of a view is not the one that is remembered.
// An administrator's command binds another key, then replaces this one, and notifies the
// bridge at the end: only the row as it is now says whose doing it is.
func (e *Engine) differs(v *keyView) bool {
	if !v.Accepted.Present {
		return e.accepted.Knows(v.ID)
	}
	bound := e.rows.entries[v.ID].row.KeySHA256
	if c := e.highstates[v.ID]; c != nil {
		bound = c.Row.KeySHA256
	}
	return bound != "" && bound != v.Accepted.Digest
}

// repairKey asks for an accepted key that is none (a loss of power may leave such a
// file) to be written anew, from the row. Once in a while: it may be that it cannot.
func (e *Engine) repairKey(v *keyView) {
	if !v.Accepted.Present || v.Accepted.Digest != "" || v.Row.KeySHA256 == "" || v.Row.Status != fleet.Launch {
		delete(e.repairedAt, v.ID)
		return
	}
	if at, there := e.repairedAt[v.ID]; !there || e.now().Sub(at) >= fullEvery {
		e.repairedAt[v.ID] = e.now()
		e.restoring[v.ID] = true
	}
}

// listForDeletion puts keys on the list of those to be deleted, or takes them off.
func (e *Engine) listForDeletion(v *keyView) {
	if !v.deletes() {
		e.replacedMeanwhile(v)
		e.cancelDeletion(v.ID)
		return
	}
	e.scheduleDeletion(v.ID, v.Row)
}

// unlink takes a pending key out of the key store where the rules say so.
func (e *Engine) unlink(v *keyView) error {
	if !v.decision.Unlink {
		return nil
	}
	err := e.keys.UnlinkPending(v.ID, v.pendingText)
	switch {
	case errors.Is(err, salt.ErrChanged):
		e.queue.add(v.ID, false) // another key lies there by now: decide on that one
		return nil
	case err != nil && !errors.Is(err, salt.ErrNoKey):
		return fmt.Errorf("unlink pending key %s: %w", v.ID, err)
	}
	e.audit.Unlinked()
	return nil
}
