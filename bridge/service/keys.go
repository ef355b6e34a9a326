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

// lookAt looks at the keys of ids (true: just connected here), does what is to
// be done about them, and opens a course for each that wants its highstate.
func (e *Engine) lookAt(ctx context.Context, looks map[string]bool) error {
	ids := slices.Sorted(maps.Keys(looks)) // sorted: the same work gives the same calls
	for chunk := range slices.Chunk(ids, batch) {
		if err := e.lookAtKeys(ctx, chunk, nil, looks); err != nil {
			return err
		}
	}
	return nil
}

// holding says in which states the key store holds a key, by id.
type holding map[string][]salt.State

// lookAtKeys works off one batch. held is what a listing of the key store said,
// or nil to ask it for each id.
func (e *Engine) lookAtKeys(ctx context.Context, ids []string, held holding, connected map[string]bool) error {
	views := make(map[string]*keyView, len(ids))
	var known []string
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		v, err := e.view(id, held)
		if err != nil {
			// One key that cannot be read must not keep the others waiting.
			e.audit.Unreadable(id, err)
			return true
		}
		views[id] = v
		if v.Valid && v.any() {
			known = append(known, id)
		}
		return false
	})
	rows, err := e.look(ctx, known)
	if err != nil {
		return err
	}
	for _, id := range ids {
		views[id].Row, views[id].Known = rows[id].row, rows[id].found
		views[id].Former = e.names.former(id, views[id].Accepted.Digest)
	}
	if err := e.prove(ctx, ids, views); err != nil {
		return err
	}
	var accept []*keyView
	var changes []fleet.Change
	var writers []*keyView
	for _, id := range ids {
		v := views[id]
		d := decide.Keys(e.cfg.Admit, v.KeyView)
		v.decision = d
		e.audit.Key(id, d, v.Pending.Digest, v.Row)
		if err := e.actOnKey(v); err != nil {
			return err
		}
		switch {
		case d.Act == decide.AcceptKey && v.Row.KeySHA256 == v.Pending.Digest:
			accept = append(accept, v)
		case d.Act == decide.AcceptKey:
			changes = append(changes, fleet.Bind{InstanceID: v.Row.InstanceID, MinionID: e.names.name(id),
				KeySHA256: v.Pending.Digest, PublicKey: string(v.pendingText), Rebind: d.Rebind})
			writers = append(writers, v)
		case d.Act == decide.AdoptKey:
			changes = append(changes, fleet.Adopt{InstanceID: v.Row.InstanceID, MinionID: id, KeySHA256: v.Accepted.Digest,
				PublicKey: string(v.acceptedText)})
			writers = append(writers, v)
		}
	}
	bound, err := e.bind(ctx, changes, writers)
	if err != nil {
		return err
	}
	if err := e.accept(ctx, append(accept, bound...)); err != nil {
		return err
	}
	for _, id := range ids {
		e.follow(id, views[id], connected[id])
		e.settle(id, views[id])
	}
	return nil
}

// keyView is a decide.KeyView and the texts it was made from.
type keyView struct {
	decide.KeyView
	pendingText, acceptedText []byte
	decision                  decide.KeyDecision
}

func (v *keyView) any() bool {
	return v.Pending.Present || v.Accepted.Present || v.Rejected.Present || v.Denied.Present
}

// view reads the keys of one id. Keys come from the key store, never from an
// event: anybody can send one.
func (e *Engine) view(id string, held holding) (*keyView, error) {
	v := &keyView{KeyView: decide.KeyView{ID: id, Valid: e.cfg.ValidID(id)}}
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
		if held != nil && !slices.Contains(held[id], k.state) {
			continue
		}
		text, err := e.keys.Read(id, k.state)
		if errors.Is(err, salt.ErrNoKey) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s key %s: %w", k.state, id, err)
		}
		k.key.Present = true
		if k.text != nil {
			*k.text = text
			k.key.Digest, _ = fleet.KeyDigest(text) // no RSA key: no digest, and a rule for it
		}
	}
	return v, nil
}

// actOnKey does what needs no write to the store.
func (e *Engine) actOnKey(v *keyView) error {
	if v.decision.Unlink {
		switch err := e.keys.UnlinkPending(v.ID, v.pendingText); {
		case errors.Is(err, salt.ErrChanged):
			e.inbox.Look(v.ID, false) // at what is there now
		case err != nil && !errors.Is(err, salt.ErrNoKey):
			return fmt.Errorf("unlink pending key %s: %w", v.ID, err)
		default:
			e.audit.Unlinked()
		}
	}
	if v.decision.Act == decide.DeleteKeys {
		e.deletes[v.ID] = v.Row
	} else {
		delete(e.deletes, v.ID)
	}
	return nil
}

// bind writes keys to rows, and returns those whose pending key may be accepted.
func (e *Engine) bind(ctx context.Context, changes []fleet.Change, views []*keyView) ([]*keyView, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	results, err := e.store.Apply(ctx, changes)
	if err != nil {
		for _, v := range views {
			e.forget(v.ID) // whether it was written is not known
		}
		return nil, fmt.Errorf("bind %d keys: %w", len(changes), err)
	}
	var bound []*keyView
	for i, r := range results {
		v := views[i]
		if r.Err != nil {
			// Another master, or an admin, was quicker: look again at what is now.
			e.rows.drop(v.ID)
			e.inbox.Look(v.ID, false)
			continue
		}
		v.Row, v.Known = r.Row, true
		e.saw(v.ID, lookup{row: r.Row, found: true})
		if v.decision.Act == decide.AcceptKey {
			bound = append(bound, v)
		}
	}
	return bound, nil
}

// accept accepts pending keys in one call, then reads what was accepted: between
// our look and the master's, an impostor may have taken the place.
func (e *Engine) accept(ctx context.Context, views []*keyView) error {
	if len(views) == 0 {
		return nil
	}
	ids := make([]string, len(views))
	for i, v := range views {
		ids[i] = v.ID
	}
	if err := e.master.Accept(ctx, ids); err != nil {
		return fmt.Errorf("accept %d keys: %w", len(ids), err)
	}
	var wrong []string
	for _, v := range views {
		text, err := e.keys.Read(v.ID, salt.Accepted)
		if errors.Is(err, salt.ErrNoKey) {
			continue // it vanished meanwhile; its next knock brings it back
		}
		if err != nil {
			return fmt.Errorf("read accepted key %s: %w", v.ID, err)
		}
		digest, _ := fleet.KeyDigest(text)
		if digest != v.Pending.Digest {
			wrong = append(wrong, v.ID)
			e.audit.WrongKey(v.ID, v.Pending.Digest, digest)
			continue
		}
		v.Accepted = decide.Key{Present: true, Digest: digest}
		e.audit.Accepted(v.ID, v.decision, digest)
	}
	if len(wrong) > 0 {
		if err := e.master.Delete(ctx, map[salt.State][]string{salt.Accepted: wrong}); err != nil {
			return fmt.Errorf("delete %d keys accepted in another's place: %w", len(wrong), err)
		}
	}
	return nil
}

// follow opens, or goes on with, the course of a minion that wants a highstate.
func (e *Engine) follow(id string, v *keyView, connected bool) {
	accepted := v.Accepted.Present && v.Accepted.Digest == v.Row.KeySHA256 && v.Row.KeySHA256 != ""
	c := e.courses[id]
	if !v.Known || !v.Row.WantsHighstate() {
		if c != nil && !c.stale {
			delete(e.courses, id)
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
		c = &course{}
		c.Saw(row, now)
		e.courses[id] = c
		e.rows.drop(id)
		e.inbox.hear(row.ClaimJID)
		if v.decision.Act == decide.AcceptKey {
			// It sleeps until its next knock, and says so when it has connected.
			c.Pinged = now
		}
	}
	c.Accepted = accepted
	if connected && accepted {
		c.Here = now
	}
	c.due = now
}
