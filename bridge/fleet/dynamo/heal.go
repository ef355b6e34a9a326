package dynamo

import (
	"context"
	"fmt"

	"phoenix/bridge/fleet"
)

// healItem is the key of the record of heals, beside sinceItem.
const healItem = "#heal"

var _ fleet.Heals = (*Store)(nil)

// LastHeal implements fleet.Heals.
func (s *Store) LastHeal(ctx context.Context) (fleet.Heal, error) {
	it, err := s.readItem(ctx, s.config.MinionsTable, item{"instanceid": text(healItem)})
	if err != nil {
		return fleet.Heal{}, err
	}
	return s.healOf(it)
}

// ClaimHeal implements fleet.Heals.
func (s *Store) ClaimHeal(ctx context.Context, instanceID string, seen int64) (fleet.Heal, bool, error) {
	w := &write{}
	w.is("heal_count", seen)
	w.set("heal_count", seen+1)
	w.set("heal_instance", instanceID)
	it, done, err := s.update(ctx, s.config.MinionsTable, healItem, w)
	if err != nil {
		return fleet.Heal{}, false, err
	}
	now, err := s.healOf(it)
	mine := done || now == fleet.Heal{Count: seen + 1, InstanceID: instanceID}
	return now, err == nil && mine, err
}

func (s *Store) healOf(it item) (fleet.Heal, error) {
	var row struct {
		Count      int64  `json:"heal_count"`
		InstanceID string `json:"heal_instance"`
	}
	if err := decode(s.config.MinionsTable, it, &row); err != nil {
		return fleet.Heal{}, fmt.Errorf("record of heals: %w", err)
	}
	return fleet.Heal{Count: row.Count, InstanceID: row.InstanceID}, nil
}
