package fleet

import (
	"context"
	"fmt"
	"time"
)

// Store keeps the fleet. All methods may be called from many goroutines and, for the
// same data, from many processes and hosts.
//
// It guarantees that a change is applied to the newest row or not at all; that once
// Apply has returned without error the row survives kill -9 and a power failure; and
// that Minion and Minions see every change that returned before they were called. It
// does not guarantee an order between rows, that ByStatus sees the newest changes,
// or, after ErrUnavailable, whether a write took effect.
//
// Every method respects ctx, and is bounded in time even if ctx is not.
type Store interface {
	// Minion reads one row. ErrNotFound if there is none.
	Minion(ctx context.Context, instanceID string) (Minion, error)

	// Minions reads many rows at once; ids without a row are absent from the map.
	// If some rows cannot be decoded, the map has all others, and the error is a
	// *BadRowsError.
	Minions(ctx context.Context, instanceIDs []string) (map[string]Minion, error)

	// Apply applies changes, each on its own: one that does not apply keeps no other
	// from applying. Result i belongs to change i. The error is nil unless the store
	// as a whole failed; the results must then not be used. Changes to the same row
	// are applied in order.
	Apply(ctx context.Context, changes []Change) ([]Result, error)

	// ByStatus calls fn with pages of rows of that status whose Modified is
	// after or equal to since (empty: all), oldest first. It ends at the first error
	// of fn. It may lag by seconds. Rows that cannot be decoded are left out: fn gets
	// all others first, and the error is then a *BadRowsError.
	ByStatus(ctx context.Context, status Status, since string, fn func([]Minion) error) error

	// Masters reads all rows of masters. Rows that cannot be decoded are left out,
	// and the error is a *BadRowsError beside all others.
	Masters(ctx context.Context) ([]Master, error)

	// Beat applies b to its master's row and returns the row.
	Beat(ctx context.Context, b Beat) (Master, error)

	// RetireMaster sets the row's status to TERMINATE, making it if there is none.
	RetireMaster(ctx context.Context, instanceID string) error

	// DrainMaster sets or clears the row's draining mark; see Master.Drained. ErrNotFound if there
	// is no row, ErrTerminated if it says TERMINATE.
	DrainMaster(ctx context.Context, instanceID string, draining bool) error

	// Proofs returns what instances wrote of their own keys, by the instances'
	// ARNs. A store of one machine has none.
	Proofs(ctx context.Context, instanceARNs []string) (map[string]Proof, error)

	// Prune deletes rows of both kinds whose Expires has passed, and returns their
	// number. Stores also delete them by themselves at some time.
	Prune(ctx context.Context) (int, error)

	// Since returns when this fleet began: set once, when the store was made.
	Since(ctx context.Context) (time.Time, error)

	Close() error
}

// Result is the outcome of one change: the row as it is now, and why the change did
// not apply (one of this package's errors, or nil).
type Result struct {
	Row Minion
	Err error
}

// ApplyOne applies one change. Its error names the instance.
func ApplyOne(ctx context.Context, s Store, c Change) (Minion, error) {
	results, err := s.Apply(ctx, []Change{c})
	if err != nil {
		return Minion{}, fmt.Errorf("%s: %w", c.Instance(), err)
	}
	if err := results[0].Err; err != nil {
		return results[0].Row, fmt.Errorf("%s: %w", c.Instance(), err)
	}
	return results[0].Row, nil
}
