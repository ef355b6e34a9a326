package admin

import (
	"context"
	"errors"
	"fmt"

	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// acceptOne accepts one key, and returns the row that it is bound to.
func acceptOne(ctx context.Context, store fleet.Store, keys *salt.Keys, master *salt.Master, id, instance string, rebind bool) (fleet.Minion, error) {
	state := salt.Pending
	text, err := keys.Read(id, state)
	if errors.Is(err, salt.ErrNoKey) && rebind {
		// Salt took another key than the bound one without us: bind that.
		state = salt.Accepted
		text, err = keys.Read(id, state)
	}
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
			PublicKey: string(text), Rebind: rebind})
	}
	if err != nil {
		return row, fmt.Errorf("%w%s", err, hint(err))
	}
	if state == salt.Pending {
		err = acceptPending(ctx, keys, master, id, digest)
	}
	return row, err
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
