package sqlite

import (
	"context"

	"phoenix/bridge/fleet"
)

// Proofs implements fleet.Store: which instance writes, IAM alone can tell, and it
// does not guard a file.
func (s *Store) Proofs(ctx context.Context, _ []string) (map[string]fleet.Proof, error) {
	return nil, ctx.Err()
}
