package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"phoenix/bridge/fleet"
)

// querier is what a pool and a transaction have in common for reading.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// The columns, in the order of minionFields and masterFields.
const (
	minionColumns = `instanceid,status,modified,highstate_ran,highstate_runner,minion_id,"group",key_sha256,public_key,` +
		`claim_version,claim_owner,claim_incarnation,claim_jid,claim_state,attempt,retcode,expires,hook_name,inferred,` +
		`replaced_sha256`
	masterColumns = `instanceid,status,modified,ipaddr,heartbeat,incarnation,ready,master_key_sha256,expires,cleared,` +
		`draining,zone,publish_port,ret_port,relay,minions,connected,queued,draining_since`

	selectMinions = `SELECT ` + minionColumns + `,sum FROM minions`
	selectMasters = `SELECT ` + masterColumns + `,sum FROM masters`
)

func minionFields(m *fleet.Minion) []any {
	return []any{&m.InstanceID, &m.Status, &m.Modified, &m.HighstateRan, &m.HighstateRunner, &m.MinionID, &m.Group,
		&m.KeySHA256, &m.PublicKey, &m.ClaimVersion, &m.ClaimOwner, &m.ClaimIncarnation, &m.ClaimJID, &m.ClaimState,
		&m.Attempt, &m.Retcode, &m.Expires, &m.HookName, &m.Inferred, &m.ReplacedSHA256}
}

func masterFields(m *fleet.Master) []any {
	return []any{&m.InstanceID, &m.Status, &m.Modified, &m.IPAddr, &m.Heartbeat, &m.Incarnation, &m.Ready,
		&m.MasterKeySHA256, &m.Expires, &m.Cleared, &m.Draining, &m.Zone, &m.PublishPort, &m.RetPort, &m.Relay,
		&m.Minions, &m.Connected, &m.Queued, &m.DrainingSince}
}

func scanMinion(rows *sql.Rows) (m fleet.Minion, err error) {
	err = scan(rows, minionFields(&m))
	return m, err
}

func scanMaster(rows *sql.Rows) (m fleet.Master, err error) {
	err = scan(rows, masterFields(&m))
	return m, err
}

// badRow says what is wrong with one row. The others are not concerned.
type badRow struct {
	id    string // as it stands there
	cause error
}

func (b *badRow) Error() string {
	return fmt.Sprintf("row %q is damaged: %v (delete it with sqlite3, then phoenix minions add or retire it)",
		b.id, b.cause)
}
func (b *badRow) Unwrap() []error { return []error{fleet.ErrCorrupt, b.cause} }

// scan reads one row and proves it: SQLite has no checksums of its own, so that
// a flipped bit within a value would pass its integrity check. A row that is not
// as it was written is a *badRow; what could be read of it is in fields.
// more are columns after the checksum that it does not cover.
func scan(rows *sql.Rows, fields []any, more ...any) error {
	var sum int64
	switch err := rows.Scan(append(append(slices.Clip(fields), &sum), more...)...); {
	case rows.Err() != nil: // the context ended
		return rows.Err()
	case err != nil:
		return &badRow{text(fields[0]), err}
	case sum != checksum(fields...):
		return &badRow{text(fields[0]), errChecksum}
	}
	return nil
}

var errChecksum = errors.New("it does not have its checksum")

// each hands every good row to f, and gives what is wrong with the others, by id.
// It closes rows.
func each[T any](rows *sql.Rows, scan func(*sql.Rows) (T, error), f func(T)) (bad map[string]error, err error) {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		row, err := scan(rows)
		if b := (*badRow)(nil); errors.As(err, &b) {
			if bad == nil {
				bad = map[string]error{}
			}
			bad[b.id] = b
			continue
		}
		if err != nil {
			return nil, err
		}
		f(row)
	}
	return bad, rows.Err()
}

// upsert is the statement that writes a whole row.
func upsert(table, columns string) string {
	var set []string
	for _, c := range strings.Split(columns, ",")[1:] {
		set = append(set, c+"=excluded."+c)
	}
	return fmt.Sprintf(`INSERT INTO %s (%s,sum) VALUES (?%s) ON CONFLICT (instanceid) DO UPDATE SET %s,sum=excluded.sum`,
		table, columns, strings.Repeat(",?", len(set)+1), strings.Join(set, ","))
}

// checksum covers the places and values of all fields that are not zero. The
// others are left out, so that a column appended later changes no sum.
func checksum(fields ...any) int64 {
	buf := make([]byte, 0, usualRow)
	for i, f := range fields {
		if v := text(f); v != "" {
			buf = append(strconv.AppendInt(buf, int64(i), 10), '=')
			buf = append(strconv.AppendInt(buf, int64(len(v)), 10), ':')
			buf = append(append(buf, v...), ';')
		}
	}
	return int64(crc32.ChecksumIEEE(buf))
}

// usualRow is more than a minion's row with a key of 2048 bits takes.
const usualRow = 1 << 10

// text renders a field; zero values give "".
func text(field any) string {
	switch v := field.(type) {
	case string:
		return v
	case *string:
		return *v
	case *fleet.Status:
		return string(*v)
	case *fleet.ClaimState:
		return string(*v)
	case *bool:
		if *v {
			return "true"
		}
		return ""
	case *int:
		return number(int64(*v))
	case *int64:
		return number(*v)
	case **int:
		if *v == nil {
			return ""
		}
		return strconv.Itoa(**v) // NULL is the zero value, and 0 is not
	}
	panic(fmt.Sprintf("checksum of a %T", field))
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
