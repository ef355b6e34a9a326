package dynamo

import (
	"context"
	"errors"

	"phoenix/bridge/fleet"
)

// breakerItem is the key of the record of the circuit breaker, beside sinceItem.
const breakerItem = "#breaker"

var _ fleet.Breakers = (*Store)(nil)

// LastBreaker implements fleet.Breakers.
func (s *Store) LastBreaker(ctx context.Context) (fleet.Breaker, error) {
	it, err := s.readItem(ctx, s.config.MinionsTable, item{"instanceid": text(breakerItem)})
	if err != nil {
		return fleet.Breaker{}, err
	}
	return s.breakerOf(it)
}

// WriteBreaker implements fleet.Breakers.
func (s *Store) WriteBreaker(ctx context.Context, next fleet.Breaker) (fleet.Breaker, bool, error) {
	written, err := next.Encode()
	if err != nil {
		return fleet.Breaker{}, false, err
	}
	w := &write{}
	w.is("breaker_version", next.Version-1)
	w.set("breaker_version", next.Version)
	w.set("breaker", written)
	it, done, err := s.update(ctx, s.config.MinionsTable, breakerItem, w)
	if err != nil {
		return fleet.Breaker{}, false, err
	}
	now, err := s.breakerOf(it)
	if err != nil {
		return now, false, err
	}
	if is, _ := now.Encode(); is == written && now.Version == next.Version {
		done = true
	}
	return now, done, nil
}

func (s *Store) breakerOf(it item) (fleet.Breaker, error) {
	var row struct {
		Version int64 `json:"breaker_version"`
	}
	if err := decode(s.config.MinionsTable, it, &row); err != nil {
		return fleet.Breaker{}, err
	}
	text, is := plain(it["breaker"])
	if !is {
		return fleet.Breaker{Version: row.Version},
			damaged(s.config.MinionsTable, breakerItem, errors.New("attribute breaker is no text"))
	}
	b, err := fleet.DecodeBreaker(row.Version, text)
	if err != nil {
		return b, damaged(s.config.MinionsTable, breakerItem, err)
	}
	return b, nil
}
