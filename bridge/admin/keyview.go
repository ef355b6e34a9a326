package admin

import (
	"context"
	"errors"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// keyView reads what this master and the fleet know of one id.
func (a Admin) keyView(ctx context.Context, keys *salt.Keys, id string) (decide.KeyView, error) {
	v := decide.KeyView{ID: id, Valid: a.Config.ValidID()(id)}
	if !v.Valid {
		v.Pending.Present = true // as far as one can say of an id that no file may bear
		return v, nil
	}
	for state, key := range map[salt.State]*decide.Key{salt.Pending: &v.Pending, salt.Accepted: &v.Accepted,
		salt.Rejected: &v.Rejected, salt.Denied: &v.Denied} {
		text, err := keys.Read(id, state)
		if errors.Is(err, salt.ErrNoKey) {
			continue
		}
		if err != nil && !errors.Is(err, salt.ErrUnsettled) {
			return v, err
		}
		key.Present = true // one that is no whole key has no digest
		key.Digest, _ = fleet.KeyDigest(text)
	}
	instances, err := a.resolveInstances(ctx, []string{id})
	if err != nil {
		return v, err
	}
	row, err := a.Store.Minion(ctx, instances[id])
	if errors.Is(err, fleet.ErrNotFound) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	v.Row, v.Known = row, true
	v.Proof, err = a.proofOf(ctx, row)
	return v, err
}
