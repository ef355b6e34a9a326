package service

import (
	"context"
	"fmt"
	"slices"

	"phoenix/bridge/fleet"
)

// strip makes tombstones of rows that were terminated long ago.
func (e *Engine) strip(ctx context.Context, due []fleet.Change) error {
	for chunk := range slices.Chunk(due, batch) {
		results, err := e.store.Apply(ctx, chunk)
		if err != nil {
			return fmt.Errorf("strip %d terminated minions: %w", len(chunk), err)
		}
		for i, r := range results {
			if r.Err != nil { // revived, or pruned
				e.log.Debug("change did not apply", "minion", chunk[i].Instance(), "change", "strip", "err", r.Err)
			}
		}
	}
	return nil
}
