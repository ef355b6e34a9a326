package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"phoenix/bridge/fleet"
)

// metaHeal is the key of meta under which the record of heals stands: its count, a
// space, and the last instance. A store in which nobody was ever healed lacks it.
const metaHeal = "heal"

var _ fleet.Heals = (*Store)(nil)

// LastHeal implements fleet.Heals.
func (s *Store) LastHeal(ctx context.Context) (heal fleet.Heal, err error) {
	err = s.call(ctx, "read", func(ctx context.Context) (err error) {
		heal, err = readHeal(ctx, s.read)
		return err
	})
	return heal, err
}

// ClaimHeal implements fleet.Heals.
func (s *Store) ClaimHeal(ctx context.Context, instanceID string, seen int64) (now fleet.Heal, mine bool, err error) {
	next := fleet.Heal{Count: seen + 1, InstanceID: instanceID}
	err = s.update(ctx, "write", func(ctx context.Context, tx *sql.Tx) (err error) {
		if now, err = readHeal(ctx, tx); err != nil || now.Count != seen {
			return err
		}
		now = next
		return writeMeta(ctx, tx, metaHeal, fmt.Sprintf("%d %s", next.Count, next.InstanceID))
	})
	return now, err == nil && now == next, err
}

func readHeal(ctx context.Context, q querier) (fleet.Heal, error) {
	n, id, err := readNumbered(ctx, q, metaHeal)
	if err != nil {
		return fleet.Heal{}, err
	}
	return fleet.Heal{Count: n, InstanceID: id}, nil
}
