package admin

import (
	"context"
	"errors"
	"fmt"

	"phoenix/bridge/admission"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// acceptOrRebind accepts one key, and returns the row that it is bound to. To rebind
// does not wait for another key than the bound one: one must have been seen.
func (a Admin) acceptOrRebind(ctx context.Context, keys *salt.Keys, master *salt.Master, id, instance string,
	r AcceptKeys) (fleet.Minion, error) {
	if !r.Rebind {
		return acceptOne(ctx, a.Store, keys, master, id, instance, r.KeySHA256)
	}
	found, err := a.rebinding(ctx, keys, id, r.KeySHA256)
	if err != nil {
		return fleet.Minion{}, err
	}
	return a.Rebind(ctx, found)
}

// acceptOne accepts one key, and returns the row that it is bound to. If the caller saw
// the key, seen is its digest, and no other is accepted.
func acceptOne(ctx context.Context, store fleet.Store, keys *salt.Keys, master *salt.Master, id, instance,
	seen string) (fleet.Minion, error) {
	text, err := keys.Read(id, salt.Pending)
	if err != nil {
		return fleet.Minion{}, err
	}
	digest, err := fleet.KeyDigest(text)
	if err != nil {
		return fleet.Minion{}, err
	}
	if seen != "" && digest != seen {
		return fleet.Minion{}, fmt.Errorf("%w: %s is pending", salt.ErrChanged, digest)
	}
	row, err := fleet.ApplyOne(ctx, store, fleet.Add{InstanceID: instance, MinionID: id})
	if err == nil {
		row, err = fleet.ApplyOne(ctx, store, fleet.Bind{InstanceID: instance, KeySHA256: digest,
			PublicKey: string(text)})
	}
	if err != nil {
		return row, fmt.Errorf("%w%s", err, hint(err, id))
	}
	if err := acceptPending(ctx, keys, master, id, digest); err != nil {
		// The row is right: a bridge accepts the key when the master answers.
		return row, fmt.Errorf("its key is bound, and not accepted here yet: %w", err)
	}
	return row, nil
}

// acceptPending accepts the pending key that was bound.
func acceptPending(ctx context.Context, keys *salt.Keys, master *salt.Master, id, digest string) error {
	outcomes, err := admission.Accept(ctx, master, keys, []admission.Pending{{ID: id, Digest: digest}})
	switch o := outcomes[0]; {
	case errors.Is(o.Err, admission.ErrWrongKey) && o.Delete != nil:
		return errors.Join(fmt.Errorf("%w, %.12s", o.Err, o.Digest),
			fmt.Errorf("and could not be deleted: %w", o.Delete))
	case errors.Is(o.Err, admission.ErrWrongKey):
		return fmt.Errorf("%w, %.12s; it was deleted at once", o.Err, o.Digest)
	case err != nil:
		return err
	default:
		return o.Err
	}
}
