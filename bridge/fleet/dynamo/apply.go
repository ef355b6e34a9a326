package dynamo

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
)

// races is how often a change is tried on a row that others keep changing. Each
// time one of them came first, so that it ends by itself.
const races = 20

// sight is a row as it was last seen; item is nil if there was none.
type sight struct {
	item item
	row  fleet.Minion
}

// Apply implements fleet.Store. Each change is a conditional write of its own;
// those of one row come one after the other. A termination is written to a row
// that cannot be decoded, too, though its result is an error.
func (s *Store) Apply(ctx context.Context, changes []fleet.Change) ([]fleet.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.explain(ctx, "write", err)
	}
	rows := map[string][]int{}
	var order []string
	for i, c := range changes {
		id := c.Instance()
		if rows[id] == nil {
			order = append(order, id)
		}
		rows[id] = append(rows[id], i)
	}
	results := make([]fleet.Result, len(changes))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, id := range order {
		group.Go(func() error {
			var seen *sight
			for _, i := range rows[id] {
				var err error
				if results[i].Err, seen, err = s.apply(ctx, changes[i], seen); err != nil {
					return err
				}
				if seen != nil {
					results[i].Row = seen.row
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return results, nil
}

// apply carries out one change of the row that was seen (nil: not yet), and
// gives the row as it is then, or nil if it is not known. refused is why the
// change does not apply, or what is wrong with that one row; err is the store's.
func (s *Store) apply(ctx context.Context, c fleet.Change, seen *sight) (refused error, _ *sight, err error) {
	table, id := s.config.MinionsTable, c.Instance()
	if !isKey(id) {
		return fmt.Errorf("write %.64q: %w", id, fleet.ErrPrecondition), nil, nil
	}
	for range races {
		var w *write
		if seen == nil {
			w = unread(c)
		}
		if w == nil && seen == nil {
			it, err := s.readItem(ctx, table, item{"instanceid": text(id)})
			if err != nil {
				return nil, nil, err
			}
			if seen, refused = s.see(it); refused != nil {
				return refused, nil, nil
			}
		}
		if seen != nil {
			next, refused := c.Apply(seen.row, seen.item != nil)
			if refused != nil || next == seen.row {
				return refused, seen, nil
			}
			w = rewrite(seen.item, seen.row, next)
		}
		it, done, err := s.update(ctx, table, id, w)
		if invalid(err) {
			refused, err = s.blame(ctx, id, err)
			return refused, nil, err
		}
		if err != nil {
			return nil, nil, err
		}
		if seen, refused = s.see(it); refused != nil || done {
			return refused, seen, nil
		}
	}
	return s.explain(ctx, "write "+id, errors.New("the row changed each time")), nil, nil
}

// see decodes a row. If it cannot be decoded, there is no sight of it.
func (s *Store) see(it item) (*sight, error) {
	if it == nil {
		return &sight{}, nil
	}
	row, err := minionOf(s.config.MinionsTable, it)
	if err != nil {
		return nil, err
	}
	return &sight{it, row}, nil
}

// blame finds out whether a request that DynamoDB calls invalid failed because of
// its one row: then that is refused, and no other change is concerned.
func (s *Store) blame(ctx context.Context, id string, why error) (refused, err error) {
	it, err := s.readItem(ctx, s.config.MinionsTable, item{"instanceid": text(id)})
	if err != nil {
		return nil, err
	}
	if _, bad := s.see(it); bad != nil {
		return bad, nil
	}
	return why, nil
}
