package admin

import (
	"context"
	"errors"
	"fmt"

	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// acceptOrRebind accepts one key, and returns the row that it is bound to. To rebind
// does not wait for another key than the bound one: one must have been seen.
func (a Admin) acceptOrRebind(ctx context.Context, keys *salt.Keys, master *salt.Master, id, instance string, rebind bool) (fleet.Minion, error) {
	if !rebind {
		return acceptOne(ctx, a.Store, keys, master, id, instance)
	}
	r, err := a.rebinding(ctx, keys, id)
	if err != nil {
		return fleet.Minion{}, err
	}
	return a.Rebind(ctx, r)
}

// acceptOne accepts one key, and returns the row that it is bound to.
func acceptOne(ctx context.Context, store fleet.Store, keys *salt.Keys, master *salt.Master, id, instance string) (fleet.Minion, error) {
	text, err := keys.Read(id, salt.Pending)
	if err != nil {
		return fleet.Minion{}, err
	}
	digest, err := fleet.KeyDigest(text)
	if err != nil {
		return fleet.Minion{}, err
	}
	row, err := fleet.ApplyOne(ctx, store, fleet.Add{InstanceID: instance, MinionID: id})
	if err == nil {
		row, err = fleet.ApplyOne(ctx, store, fleet.Bind{InstanceID: instance, KeySHA256: digest,
			PublicKey: string(text)})
	}
	if err != nil {
		return row, fmt.Errorf("%w%s", err, hint(err))
	}
	return row, acceptPending(ctx, keys, master, id, digest)
}

// acceptPending accepts, and makes sure that the key which was accepted is the one
// that was looked at: between the two, another may have taken its place.
func acceptPending(ctx context.Context, keys *salt.Keys, master *salt.Master, id, digest string) error {
	if err := master.Accept(ctx, []string{id}); err != nil {
		return err
	}
	text, err := keys.Read(id, salt.Accepted)
	if err != nil {
		return fmt.Errorf("read what was accepted: %w", err)
	}
	if got, _ := fleet.KeyDigest(text); got != digest {
		err := fmt.Errorf("another key, %.12s, was in its place", got)
		if gone := master.Delete(ctx, map[salt.State][]string{salt.Accepted: {id}}); gone != nil {
			return errors.Join(err, fmt.Errorf("and could not be deleted: %w", gone))
		}
		return fmt.Errorf("%w; it was deleted at once", err)
	}
	return nil
}
