package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"phoenix/bridge/fleet"
)

// Masters implements fleet.Store.
func (s *Store) Masters(ctx context.Context) (masters []fleet.Master, err error) {
	err = s.call(ctx, "read", func(ctx context.Context) (err error) {
		masters, err = readMasters(ctx, s.read, " ORDER BY instanceid")
		return err
	})
	return masters, err
}

// Beat implements fleet.Store.
func (s *Store) Beat(ctx context.Context, b fleet.Beat) (row fleet.Master, err error) {
	return s.changeMaster(ctx, b.InstanceID, b.Apply)
}

// RetireMaster implements fleet.Store.
func (s *Store) RetireMaster(ctx context.Context, instanceID string) error {
	_, err := s.changeMaster(ctx, instanceID, func(row fleet.Master, _ bool) (fleet.Master, error) {
		return row.Retired(instanceID, s.now()), nil
	})
	return err
}

// DrainMaster implements fleet.Store.
func (s *Store) DrainMaster(ctx context.Context, instanceID string, draining bool) error {
	_, err := s.changeMaster(ctx, instanceID, func(row fleet.Master, found bool) (fleet.Master, error) {
		switch {
		case !found:
			return row, fleet.ErrNotFound
		case row.Status == fleet.Terminate:
			return row, fleet.ErrTerminated
		}
		row.Draining = draining
		return row, nil
	})
	return err
}

func (s *Store) changeMaster(ctx context.Context, id string, apply func(fleet.Master, bool) (fleet.Master, error)) (next fleet.Master, err error) {
	var refused error
	err = s.update(ctx, "write", func(ctx context.Context, tx *sql.Tx) error {
		rows, err := readMasters(ctx, tx, " WHERE instanceid = ?", id)
		if err != nil {
			return err
		}
		var row fleet.Master
		if len(rows) > 0 {
			row = rows[0]
		}
		if next, refused = apply(row, len(rows) > 0); refused != nil || next == row {
			return nil
		}
		next.Modified = later(row.Modified, fleet.FormatTime(s.now()))
		fields := masterFields(&next)
		_, err = tx.ExecContext(ctx, upsert("masters", masterColumns),
			append(fields, checksum(fields...))...)
		return err
	})
	if err == nil && refused != nil {
		err = fmt.Errorf("master %s: %w", id, refused)
	}
	return next, err
}

func readMasters(ctx context.Context, q querier, where string, args ...any) (masters []fleet.Master, err error) {
	rows, err := q.QueryContext(ctx, selectMasters+where, args...)
	if err != nil {
		return nil, err
	}
	return masters, each(rows, scanMaster, func(m fleet.Master) { masters = append(masters, m) })
}
