package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"phoenix/bridge/fleet"
)

// metaBreaker is the key of meta under which the record of the circuit breaker
// stands: its version, a space, and the rest as JSON.
const metaBreaker = "breaker"

var _ fleet.Breakers = (*Store)(nil)

// LastBreaker implements fleet.Breakers.
func (s *Store) LastBreaker(ctx context.Context) (b fleet.Breaker, err error) {
	err = s.call(ctx, "read", func(ctx context.Context) (err error) {
		b, err = readBreaker(ctx, s.read)
		return err
	})
	return b, err
}

// WriteBreaker implements fleet.Breakers.
func (s *Store) WriteBreaker(ctx context.Context, next fleet.Breaker) (now fleet.Breaker, mine bool, err error) {
	written, err := next.Encode()
	if err != nil {
		return now, false, err
	}
	err = s.update(ctx, "write", func(ctx context.Context, tx *sql.Tx) (err error) {
		now, err = readBreaker(ctx, tx)
		if err != nil && !errors.Is(err, fleet.ErrCorrupt) || now.Version != next.Version-1 {
			return err
		}
		now = next
		return writeMeta(ctx, tx, metaBreaker, fmt.Sprintf("%d %s", next.Version, written))
	})
	if err != nil {
		return now, false, err
	}
	is, err := now.Encode()
	return now, err == nil && now.Version == next.Version && is == written, err
}

// readBreaker reads the record. A version that cannot be read counts as 0, so that the
// record can be written over.
func readBreaker(ctx context.Context, q querier) (fleet.Breaker, error) {
	n, text, err := readNumbered(ctx, q, metaBreaker)
	if err != nil {
		return fleet.Breaker{}, err
	}
	b, err := fleet.DecodeBreaker(n, text)
	if err != nil {
		return b, damaged("meta: " + metaBreaker + ": " + err.Error())
	}
	return b, nil
}
