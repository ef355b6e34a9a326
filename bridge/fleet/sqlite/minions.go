package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/fleet"
)

// purgeEvery is how often rows past their expiry are deleted. DynamoDB takes up
// to two days for it, so nothing may rely on an expired row being gone.
const purgeEvery = time.Hour

// Minion implements fleet.Store.
func (s *Store) Minion(ctx context.Context, instanceID string) (fleet.Minion, error) {
	found, err := s.Minions(ctx, []string{instanceID})
	if bad, _ := fleet.WithoutBadRows(err); bad != nil {
		err = fmt.Errorf("read minion %s: %w", instanceID, err)
	}
	if err != nil {
		return fleet.Minion{}, err
	}
	row, ok := found[instanceID]
	if !ok {
		return fleet.Minion{}, fmt.Errorf("read minion %s: %w", instanceID, fleet.ErrNotFound)
	}
	return row, nil
}

// Minions implements fleet.Store.
func (s *Store) Minions(ctx context.Context, instanceIDs []string) (found map[string]fleet.Minion, err error) {
	var bad map[string]error
	err = s.call(ctx, "read", func(ctx context.Context) (err error) {
		found, bad, err = readMinions(ctx, s.read, instanceIDs)
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, fleet.BadRows(bad)
}

func readMinions(ctx context.Context, q querier,
	ids []string) (found map[string]fleet.Minion, bad map[string]error, err error) {
	found, bad = make(map[string]fleet.Minion, len(ids)), map[string]error{}
	for chunk := range slices.Chunk(ids, idsPerQuery) {
		args := make([]any, len(chunk))
		for i, id := range chunk {
			args[i] = id
		}
		rows, err := q.QueryContext(ctx, selectMinions+` WHERE instanceid IN (?`+strings.Repeat(",?", len(chunk)-1)+`)`,
			args...)
		if err != nil {
			return nil, nil, err
		}
		more, err := each(rows, scanMinion, func(m fleet.Minion) { found[m.InstanceID] = m })
		if err != nil {
			return nil, nil, err
		}
		maps.Copy(bad, more)
	}
	return found, bad, nil
}

// Apply implements fleet.Store. All changes share one transaction, and so one
// fsync; what a change sees is the row as the changes before it left it.
func (s *Store) Apply(ctx context.Context, changes []fleet.Change) (results []fleet.Result, err error) {
	if len(changes) == 0 {
		return nil, ctx.Err()
	}
	err = s.update(ctx, "write", func(ctx context.Context, tx *sql.Tx) error {
		ids := make([]string, len(changes))
		for i, c := range changes {
			ids[i] = c.Instance()
		}
		rows, bad, err := readMinions(ctx, tx, ids)
		if err != nil {
			return err
		}
		var written map[string]bool
		results, written = s.run(changes, rows, bad)
		return s.writeMinions(ctx, tx, rows, written)
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// run applies changes to rows, and says which rows they altered. Nothing is
// applied to a bad row.
func (s *Store) run(changes []fleet.Change, rows map[string]fleet.Minion,
	bad map[string]error) ([]fleet.Result, map[string]bool) {
	now := fleet.FormatTime(s.now())
	results := make([]fleet.Result, len(changes))
	written := map[string]bool{}
	for i, c := range changes {
		id := c.Instance()
		if err := bad[id]; err != nil {
			results[i] = fleet.Result{Err: err}
			continue
		}
		row, found := rows[id]
		next, err := c.Apply(row, found)
		if err == nil && next != row {
			next.Modified = later(row.Modified, now)
			row, rows[id], written[id] = next, next, true
		}
		results[i] = fleet.Result{Row: row, Err: err}
	}
	return results, written
}

// later keeps Modified from going back for a row when the clock does: a reader
// of ByStatus that has seen the row once never has it slip behind its watermark.
func later(before, now string) string {
	return max(before, now) // fixed width: strings sort as times do
}

func (s *Store) writeMinions(ctx context.Context, tx *sql.Tx, rows map[string]fleet.Minion,
	written map[string]bool) error {
	if len(written) == 0 {
		return nil
	}
	write, err := tx.PrepareContext(ctx, upsert("minions", minionColumns))
	if err != nil {
		return err
	}
	defer func() { _ = write.Close() }()
	for id := range written {
		row := rows[id]
		fields := minionFields(&row)
		if _, err := write.ExecContext(ctx, append(fields, checksum(fields...))...); err != nil {
			return err
		}
	}
	return s.purge(ctx, tx)
}

// purge deletes tombstones that have expired.
func (s *Store) purge(ctx context.Context, tx *sql.Tx) error {
	now := s.now()
	if now.Unix() < s.nextPurge.Load() {
		return nil
	}
	if _, err := deleteExpired(ctx, tx, now); err != nil {
		return err
	}
	s.nextPurge.Store(now.Add(purgeEvery).Unix())
	return nil
}

func deleteExpired(ctx context.Context, tx *sql.Tx, now time.Time) (n int, err error) {
	for _, table := range []string{"minions", "masters"} {
		result, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE expires > 0 AND expires < ?`, now.Unix())
		if err != nil {
			return n, err
		}
		gone, err := result.RowsAffected()
		if err != nil {
			return n, err
		}
		n += int(gone)
	}
	return n, nil
}

// Prune implements fleet.Store.
func (s *Store) Prune(ctx context.Context) (n int, err error) {
	err = s.update(ctx, "prune", func(ctx context.Context, tx *sql.Tx) error {
		n, err = deleteExpired(ctx, tx, s.now())
		return err
	})
	return n, err
}

// selectByStatus takes keys from the index, so that a row whose own modified is
// damaged cannot lead the next page astray.
const selectByStatus = `SELECT ` + minionColumns + `,sum,at,id FROM (
	SELECT rowid AS r, modified AS at, instanceid AS id FROM minions INDEXED BY by_status
	WHERE status = ? AND (modified, instanceid) > (?, ?) ORDER BY modified, instanceid LIMIT ?
) CROSS JOIN minions ON minions.rowid = r`

// ByStatus implements fleet.Store. No lock is held while fn runs.
func (s *Store) ByStatus(ctx context.Context, status fleet.Status, since string, fn func([]fleet.Minion) error) error {
	modified, id := since, "" // before every id
	bad := map[string]error{}
	for {
		var page []fleet.Minion
		n := 0
		err := s.call(ctx, "list", func(ctx context.Context) error {
			rows, err := s.read.QueryContext(ctx, selectByStatus, string(status), modified, id, pageRows)
			if err != nil {
				return err
			}
			scan := func(rows *sql.Rows) (m fleet.Minion, err error) {
				n++
				err = scan(rows, minionFields(&m), &modified, &id)
				return m, err
			}
			more, err := each(rows, scan, func(m fleet.Minion) { page = append(page, m) })
			maps.Copy(bad, more)
			return err
		})
		if err != nil {
			return err
		}
		if len(page) > 0 {
			if err := fn(page); err != nil {
				return err
			}
		}
		if n < pageRows {
			return fleet.BadRows(bad)
		}
	}
}
