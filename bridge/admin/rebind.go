package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"phoenix/bridge/audit"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
)

// Rebinding is the replacement of the key that is bound to a minion by another one:
// for a machine that was rebuilt under the same id.
type Rebinding struct {
	ID    string     `json:"id"`
	Old   string     `json:"old_key_sha256"` // empty: none was bound
	New   string     `json:"new_key_sha256"`
	State string     `json:"state"` // where the new key was found: pending, denied, accepted, or unlinked
	Since *time.Time `json:"since,omitempty"`

	instance string
	bound    string // the digest of the key in the row; empty: none was bound
	accepted string // the digest of the key that this master has accepted
	text     []byte // of the new key; nil if the bridge has unlinked it
}

// Unlinked is the State of a key that a bridge has unlinked: only its digest is known,
// from the audit trail.
const Unlinked = "unlinked"

// ErrNoOtherKey is returned when no other key than the bound one was seen for an id.
var ErrNoOtherKey = errors.New("no other key was seen for it")

// ErrAwaited is returned when an operation is done, and what it then waits for has not
// happened in time.
var ErrAwaited = errors.New("it is done, and what follows has not happened yet")

// rebindPause is the time between two looks at the key store while a minion's next
// auth request is awaited: each is some small files. A minion sends one every
// acceptance_wait_time, 10 s by default.
const rebindPause = 200 * time.Millisecond

// FindRebinding finds the key that would take the place of the bound one: any other, or
// the one whose digest is seen. If there is none yet it waits for the minion's next auth
// request, until ctx ends.
func (a Admin) FindRebinding(ctx context.Context, id, seen string) (*Rebinding, error) {
	if err := a.checkIDs([]string{id}); err != nil {
		return nil, err
	}
	if seen != "" && !wholeDigest(seen) {
		return nil, notDigest(seen)
	}
	_, keys, _, err := open.Master(a.Config)
	if err != nil {
		return nil, err
	}
	done := func() {}
	defer func() { done() }()
	again := time.NewTicker(rebindPause)
	defer again.Stop()
	for first := true; ; first = false {
		r, err := a.rebinding(ctx, keys, id, seen)
		if !errors.Is(err, ErrNoOtherKey) {
			return r, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("rebind key %s: %w", id, err)
		}
		if first {
			a.note("waiting for the next auth request of %s: the machine may be switched on now; if its minion was denied before, it has exited: there, systemctl restart salt-minion", id)
			done = a.progress("waiting for the next auth request of %s", id)
		}
		select {
		case <-ctx.Done():
		case <-again.C:
		}
	}
}

// rebinding finds the key that would take the place of the bound one: any other, or
// the one whose digest the caller saw.
func (a Admin) rebinding(ctx context.Context, keys *salt.Keys, id, seen string) (*Rebinding, error) {
	// the wait may be over, and the last look is not
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rebindLimit)
	defer cancel()
	view, err := a.keyView(ctx, keys, id)
	if err != nil {
		return nil, fmt.Errorf("rebind key %s: %w", id, err)
	}
	if view.Known && view.Row.Status == fleet.Terminate {
		return nil, fmt.Errorf("rebind key %s: %w%s", id, fleet.ErrTerminated, hint(fleet.ErrTerminated, id))
	}
	r := &Rebinding{ID: id, Old: view.Row.KeySHA256, bound: view.Row.KeySHA256, accepted: view.Accepted.Digest}
	if r.Old == "" {
		r.Old = view.Accepted.Digest
	}
	if bound := view.Row.KeySHA256; bound != "" && view.Accepted.Digest != "" && view.Accepted.Digest != bound &&
		view.Accepted.Digest != seen &&
		(view.Denied.Digest == bound || view.Pending.Digest == bound ||
			view.Accepted.Digest == view.Row.ReplacedSHA256) {
		// It was rebound on another master; the old key is accepted here. The new one may not
		// have been sent to this master yet.
		r.Old = view.Accepted.Digest
	}
	instances, err := a.resolveInstances(ctx, []string{id})
	if err != nil {
		return nil, fmt.Errorf("rebind key %s: %w", id, err)
	}
	r.instance = instances[id]
	for _, k := range []struct {
		name   string
		state  salt.State
		digest string
	}{{"pending", salt.Pending, view.Pending.Digest}, {"denied", salt.Denied, view.Denied.Digest},
		{"accepted", salt.Accepted, view.Accepted.Digest}} {
		if k.digest == "" || k.digest == r.Old || seen != "" && k.digest != seen {
			continue
		}
		text, err := keys.Read(id, k.state)
		if err != nil {
			continue // it is gone, or another is being written
		}
		if r.New, err = fleet.KeyDigest(text); err == nil && r.New == k.digest {
			r.State, r.text = k.name, text
			if since, err := keys.Since(id, k.state); err == nil {
				r.Since = &since
			}
			return r, nil
		}
	}
	lines, err := audit.Last(a.Config.Audit.File, id, unlinkedLines)
	if err != nil {
		return nil, fmt.Errorf("rebind key %s: %w", id, err)
	}
	for _, line := range lines { // the newest at the end
		if digest, ok := unlinkedKey(line); ok && digest != r.Old && (seen == "" || digest == seen) {
			r.New, r.State, r.Since = digest, Unlinked, &line.Time
		}
	}
	if r.New == "" || r.State != Unlinked || time.Since(*r.Since) > unlinkedFor {
		if !view.Known && r.Old == "" {
			return nil, fmt.Errorf("rebind key %s: %w, and this master has no key of it", id, fleet.ErrNotFound)
		}
		return nil, ErrNoOtherKey
	}
	return r, nil
}

const (
	// rebindLimit bounds one look at store and keys.
	rebindLimit = 20 * time.Second
	// unlinkedLines is how many lines of the trail are searched for an unlinked key.
	unlinkedLines = 50
	// unlinkedFor is how long ago a key may have been unlinked: a minion that still asks
	// has it unlinked every few seconds, and the trail has one line for each key.
	unlinkedFor = 24 * time.Hour
)

// unlinkedKey returns the digest of the key that a line says was unlinked.
func unlinkedKey(line audit.Line) (digest string, ok bool) {
	if line.Text != "pending key unlinked" {
		return "", false
	}
	digest = attribute(line, "key")
	return digest, len(digest) == 64
}

// Rebind binds the new key of a rebinding that FindRebinding returned, and lets its
// minion in on this master. Its first highstate is run again, unless it was adopted: then
// one runs only on request. The old key goes through the master, which then changes its AES key, since the old machine
// knows it.
func (a Admin) Rebind(ctx context.Context, r *Rebinding) (fleet.Minion, error) {
	_, keys, master, err := open.Master(a.Config)
	if err != nil {
		return fleet.Minion{}, err
	}
	state := salt.States[r.State]
	if r.text != nil { // again, just before: another may be there by now
		text, err := keys.Read(r.ID, state)
		if errors.Is(err, salt.ErrNoKey) { // the bridge unlinked it: the old key is still bound
			state = ""
		} else if digest, _ := fleet.KeyDigest(text); err != nil || digest != r.New {
			return fleet.Minion{}, fmt.Errorf("rebind key %s: %w", r.ID, errors.Join(salt.ErrChanged, err))
		}
	}
	row, err := fleet.ApplyOne(ctx, a.Store, fleet.Add{InstanceID: r.instance, MinionID: a.minionID(r.ID)})
	if err == nil {
		row, err = fleet.ApplyOne(ctx, a.Store,
			fleet.Bind{InstanceID: r.instance, KeySHA256: r.New, PublicKey: string(r.text), Replaces: r.bound,
				Rebound: r.Old})
	}
	if err != nil {
		return row, fmt.Errorf("rebind key %s: %w%s", r.ID, err, hint(err, r.ID))
	}
	if a.By != Bridge {
		a.recorded(a.append(slog.LevelInfo, rebound+" by hand", r.ID, "by", a.By, "key", r.New, "bound", r.Old))
	}
	// From here on the row is right: what fails below, a bridge does at the minion's next
	// auth request.
	if err := a.replaceKey(ctx, keys, master, r, state); err != nil {
		return row, fmt.Errorf("rebind key %s: it is bound, and its old key is still accepted here: %w", r.ID, err)
	}
	a.notify(ctx, r.ID)
	return row, nil
}

// replaceKey puts the new key in the place of the old one on this master.
func (a Admin) replaceKey(ctx context.Context, keys *salt.Keys, master *salt.Master, r *Rebinding,
	state salt.State) error {
	if state == salt.Accepted {
		return nil
	}
	text, err := keys.Read(r.ID, salt.Accepted)
	accepted := err == nil
	there, _ := fleet.KeyDigest(text)
	if state == salt.Pending && !accepted {
		if err := acceptPending(ctx, keys, master, r.ID, r.New); !errors.Is(err, salt.ErrNoKey) {
			return err
		}
	}
	if r.text != nil && state != "" {
		if _, err := salt.DeleteKey(ctx, keys, master, r.ID, state, r.New); err != nil &&
			!errors.Is(err, salt.ErrNoKey) {
			return err
		}
	}
	switch {
	case accepted && there == r.New:
		return nil // a bridge was quicker
	case accepted && there != r.accepted:
		return fmt.Errorf("%w: %.12s is accepted", salt.ErrChanged, there)
	case accepted:
		// A bridge that has read the row does the same.
		there, err := salt.DeleteKey(ctx, keys, master, r.ID, salt.Accepted, r.accepted)
		if err != nil && !errors.Is(err, salt.ErrNoKey) && there != r.New {
			return err
		}
	}
	if r.text == nil { // the bridge accepts it when it comes again
		return nil
	}
	_, faults, err := keys.WriteAccepted(map[string][]byte{r.ID: r.text})
	return errors.Join(err, faults[r.ID])
}

// HighstateBegun reports whether a bridge has begun the first highstate of a minion since
// its key was rebound.
func (a Admin) HighstateBegun(ctx context.Context, r *Rebinding) (bool, error) {
	row, err := a.Store.Minion(ctx, r.instance)
	return row.ClaimState != fleet.Unclaimed || row.HighstateRan, err
}

// KeyBeside returns a key that Salt has denied, or holds as pending, beside the one that
// was bound; nil: there is none. The key of the former machine is one.
func (a Admin) KeyBeside(ctx context.Context, r *Rebinding) (*OtherKey, error) {
	_, keys, _, err := open.Master(a.Config)
	if err != nil {
		return nil, err
	}
	view, err := a.keyView(ctx, keys, r.ID)
	if err != nil {
		return nil, err
	}
	for _, of := range []struct {
		state salt.State
		name  string
		key   decide.Key
	}{{salt.Denied, "denied", view.Denied}, {salt.Pending, "pending", view.Pending}} {
		if of.key.Digest == "" || of.key.Digest == r.New {
			continue
		}
		if since, err := keys.Since(r.ID, of.state); err == nil {
			return &OtherKey{ID: r.ID, State: of.name, Key: of.key.Digest, Known: r.New, Since: since}, nil
		}
	}
	return nil, nil
}
