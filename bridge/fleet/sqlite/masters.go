package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"phoenix/bridge/fleet"
)

// Masters implements fleet.Store.
func (s *Store) Masters(ctx context.Context) (masters []fleet.Master, err error) {
	var bad map[string]error
	err = s.call(ctx, "read", func(ctx context.Context) (err error) {
		masters, bad, err = readMasters(ctx, s.read)
		return err
	})
	if err != nil {
		return nil, err
	}
	return masters, fleet.BadRows(bad)
}

// Beat implements fleet.Store. A damaged row of its own is written anew.
func (s *Store) Beat(ctx context.Context, b fleet.Beat) (row fleet.Master, err error) {
	return s.changeMaster(ctx, b.InstanceID, true, b.Apply)
}

// RetireMaster implements fleet.Store. It is as good for a damaged row.
func (s *Store) RetireMaster(ctx context.Context, instanceID string) error {
	_, err := s.changeMaster(ctx, instanceID, true, func(row fleet.Master, _ bool) (fleet.Master, error) {
		return row.Retired(instanceID, s.now()), nil
	})
	return err
}

// DrainMaster implements fleet.Store.
func (s *Store) DrainMaster(ctx context.Context, instanceID string, draining bool) error {
	_, err := s.changeMaster(ctx, instanceID, false, func(row fleet.Master, found bool) (fleet.Master, error) {
		switch {
		case !found:
			return row, fleet.ErrNotFound
		case row.Status == fleet.Terminate:
			return row, fleet.ErrTerminated
		}
		return row.Drained(draining, s.now()), nil
	})
	return err
}

// changeMaster applies a change to one master's row. mends: a damaged row is
// taken as it can be read, so that one which seems terminated stays so.
func (s *Store) changeMaster(ctx context.Context, id string, mends bool,
	apply func(fleet.Master, bool) (fleet.Master, error)) (next fleet.Master, err error) {
	var refused error
	err = s.update(ctx, "write", func(ctx context.Context, tx *sql.Tx) error {
		row, found, damaged, err := readMaster(ctx, tx, id)
		if err != nil {
			return err
		}
		if damaged != nil && !mends {
			refused = damaged
			return nil
		}
		if damaged != nil {
			row.InstanceID = id
		}
		if next, refused = apply(row, found); refused != nil || next == row && damaged == nil {
			return nil
		}
		next.Modified = later(row.Modified, fleet.FormatTime(s.now()))
		fields := masterFields(&next)
		_, err = tx.ExecContext(ctx, upsert("masters", masterColumns), append(fields, checksum(fields...))...)
		return err
	})
	if err == nil && refused != nil {
		err = fmt.Errorf("master %s: %w", id, refused)
	}
	return next, err
}

// readMaster reads one row; damaged says what is wrong with it.
func readMaster(ctx context.Context, q querier, id string) (row fleet.Master, found bool, damaged, err error) {
	rows, err := q.QueryContext(ctx, selectMasters+" WHERE instanceid = ?", id)
	if err != nil {
		return row, false, nil, err
	}
	bad, err := each(rows, func(rows *sql.Rows) (fleet.Master, error) {
		var err error
		found = true
		row, err = scanMaster(rows)
		return row, err
	}, func(fleet.Master) {})
	for _, damaged = range bad {
	}
	return row, found, damaged, err
}

func readMasters(ctx context.Context, q querier) (masters []fleet.Master, bad map[string]error, err error) {
	rows, err := q.QueryContext(ctx, selectMasters+" ORDER BY instanceid")
	if err != nil {
		return nil, nil, err
	}
	bad, err = each(rows, scanMaster, func(m fleet.Master) { masters = append(masters, m) })
	return masters, bad, err
}
