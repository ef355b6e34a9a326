package admin

import (
	"context"
	"fmt"
	"maps"
	"time"

	"phoenix/bridge/fleet"
)

// PruneMinions is the request of Prune.
type PruneMinions struct {
	Older  *Duration `json:"older"` // strip rows terminated so long ago; nil: fleet.StripAfter
	DryRun bool      `json:"dry_run"`
}

// Pruned is what Prune did, or would do.
type Pruned struct {
	Stripped int `json:"stripped"`
	Deleted  int `json:"deleted"`
	Left     int `json:"left"` // terminated rows and tombstones that stay
}

// Prune makes tombstones of rows that were terminated long ago, and deletes those
// that have expired.
func (a Admin) Prune(ctx context.Context, r PruneMinions) (*Pruned, error) {
	now, older := time.Now(), fleet.TombstoneAfter
	if r.Older != nil {
		older = time.Duration(*r.Older)
	}
	var due []fleet.Change
	out := &Pruned{}
	err := a.Store.ByStatus(ctx, fleet.Terminate, "", func(page []fleet.Minion) error {
		for _, row := range page {
			if row.Expires != 0 && row.Expires < now.Unix() {
				out.Deleted++
				continue
			}
			out.Left++
			if s, strip := fleet.ToTombstone(row, older, now); strip {
				due = append(due, s)
			}
		}
		return nil
	})
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return nil, fmt.Errorf("list terminated minions: %w", err)
	}
	out.Stripped = len(due)
	if r.DryRun {
		return out, fleet.BadRows(bad)
	}
	if out.Stripped, err = a.strip(ctx, due); err != nil {
		return nil, err
	}
	out.Deleted, err = a.Store.Prune(ctx)
	more, err := fleet.WithoutBadRows(err)
	if err != nil {
		return nil, fmt.Errorf("delete expired rows: %w", err)
	}
	if bad == nil {
		bad = map[string]error{}
	}
	maps.Copy(bad, more)
	return out, fleet.BadRows(bad)
}

func (a Admin) strip(ctx context.Context, due []fleet.Change) (n int, err error) {
	results, err := a.Store.Apply(ctx, due)
	if err != nil {
		return 0, fmt.Errorf("strip terminated minions: %w", err)
	}
	for _, r := range results {
		if r.Err == nil { // else it was revived meanwhile
			n++
		}
	}
	return n, nil
}
