package service

import (
	"context"
	"errors"
	"fmt"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// bind writes keys to rows, and returns those whose pending key may be accepted.
func (e *Engine) bind(ctx context.Context, views []*keyView) ([]*keyView, error) {
	if len(views) == 0 {
		return nil, nil
	}
	changes := make([]fleet.Change, len(views))
	for i, v := range views {
		changes[i] = v.binding(e.names.name(v.ID))
	}
	results, err := e.store.Apply(ctx, changes)
	if err != nil {
		for _, v := range views {
			e.invalidate(v.ID) // whether it was written is not known
		}
		return nil, fmt.Errorf("bind %s: %w", plural.Of(len(changes), "key"), err)
	}
	var bound []*keyView
	for i, r := range results {
		v := views[i]
		if r.Err == nil && e.otherName(v.ID, r.Row) {
			r.Err = fmt.Errorf("the row is bound to the id %s", r.Row.MinionID)
		}
		if r.Err != nil {
			// Another master, or an admin, was quicker: decide again from the current state.
			// A row that goes on saying no is asked less and less.
			v.failed = true
			e.rows.drop(v.ID)
			if errors.Is(r.Err, fleet.ErrCorrupt) {
				e.problem(BadRow, v.ID, r.Err)
			}
			e.queue.retry(v.ID, false, e.now())
			continue
		}
		if v.Row.KeySHA256 == "" {
			v.listed = v.Row.Modified
		}
		v.Row, v.Known = r.Row, true
		e.updateRow(v.ID, cachedRow{row: r.Row, found: true})
		if v.decision.Act == decide.AcceptKey {
			bound = append(bound, v)
		}
	}
	return bound, nil
}

// binding is the change that ties a key to the row.
func (v *keyView) binding(name string) fleet.Change {
	switch v.decision.Act {
	case decide.AdoptKey:
		return fleet.Adopt{InstanceID: v.Row.InstanceID, MinionID: v.ID, KeySHA256: v.Accepted.Digest,
			PublicKey: string(v.acceptedText)}
	case decide.WriteKey:
		return fleet.Bind{InstanceID: v.Row.InstanceID, MinionID: name, KeySHA256: v.Proof,
			PublicKey: string(v.proofText)}
	case decide.BindKey:
		return fleet.Bind{InstanceID: v.Row.InstanceID, MinionID: name, KeySHA256: v.Accepted.Digest,
			PublicKey: string(v.acceptedText)}
	}
	c := fleet.Bind{InstanceID: v.Row.InstanceID, MinionID: name, KeySHA256: v.Pending.Digest,
		PublicKey: string(v.pendingText)}
	if v.decision.Rebind {
		c.Replaces = v.Row.KeySHA256
	}
	return c
}

// removed reports that a key was deleted by hand, or that it is there again.
func (e *Engine) removed(v *keyView) {
	switch {
	case v.Removed:
		e.problem(KeyRemoved, v.ID, errors.New(v.decision.Reason))
		return
	case v.Accepted.Present:
		e.rememberAccepted(v.ID, v.Row, v.Accepted.Digest)
	case v.Known && v.Row.Status == fleet.Terminate, !v.Known && !v.any():
		e.forgetAccepted(v.ID)
	}
	e.problems.over(KeyRemoved, v.ID)
}

// otherAccepted reports an accepted key that is not the bound one, as after the restore of
// an older copy of the store. The audit trail has a line about it.
func (e *Engine) otherAccepted(v *keyView) {
	if v.decision.OtherAccepted() {
		e.problems.report(OtherKey, v.ID, v.decision.Reason)
	} else {
		e.problems.over(OtherKey, v.ID)
	}
}

// trackHighstate opens, or goes on with, the highstate of a minion that wants a highstate.
func (e *Engine) trackHighstate(id string, v *keyView, connected bool) {
	accepted := v.Accepted.Present && v.Accepted.Digest == v.Row.KeySHA256 && v.Row.KeySHA256 != ""
	c := e.highstates[id]
	if !v.Known || !v.Row.WantsHighstate() {
		if c != nil && !c.stale {
			delete(e.highstates, id)
		}
		return
	}
	now := e.now()
	if c == nil {
		if !accepted {
			return
		}
		row := v.Row
		row.PublicKey = ""
		c = &highstate{opened: now}
		c.UpdateRow(row, now)
		c.KeyAt, c.Accepted, c.anew = now, true, row.ReplacedSHA256 != ""
		e.highstates[id] = c
		e.rows.drop(id)
		e.inbox.subscribe(row.ClaimJID)
		e.inbox.await(id)
		if v.decision.Act == decide.AcceptKey || v.decision.Act == decide.WriteKey {
			// It sleeps until its next auth request, or has not started yet, and sends
			// an event when it has connected.
			c.Pinged = now
			c.acceptedAt = now
		}
	}
	if accepted && !c.Accepted {
		c.KeyChanged(now)
	}
	c.Accepted = accepted
	// A start event that was read together with a change of the key may be of the machine
	// that had the former one: the minion is asked instead.
	connected, c.anew = connected && !c.anew, false
	if connected && accepted {
		c.ConnectedAt = now
		if c.firstConnected.IsZero() {
			c.firstConnected = now
			if !c.acceptedAt.IsZero() { // else it was accepted before, or elsewhere
				e.audit.counters.Durations.Connected(now.Sub(c.acceptedAt))
			}
		}
	}
	c.due = now
}
