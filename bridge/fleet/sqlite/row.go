package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"hash/crc32"
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
		`claim_version,claim_owner,claim_incarnation,claim_jid,claim_state,attempt,retcode,expires,hook_name,inferred`
	masterColumns = `instanceid,status,modified,ipaddr,heartbeat,incarnation,ready,master_key_sha256,expires,cleared,` +
		`draining,zone,publish_port,ret_port,relay`

	selectMinions = `SELECT ` + minionColumns + `,sum FROM minions`
	selectMasters = `SELECT ` + masterColumns + `,sum FROM masters`
)

func minionFields(m *fleet.Minion) []any {
	return []any{&m.InstanceID, &m.Status, &m.Modified, &m.HighstateRan, &m.HighstateRunner, &m.MinionID, &m.Group,
		&m.KeySHA256, &m.PublicKey, &m.ClaimVersion, &m.ClaimOwner, &m.ClaimIncarnation, &m.ClaimJID, &m.ClaimState,
		&m.Attempt, &m.Retcode, &m.Expires, &m.HookName, &m.Inferred}
}

func masterFields(m *fleet.Master) []any {
	return []any{&m.InstanceID, &m.Status, &m.Modified, &m.IPAddr, &m.Heartbeat, &m.Incarnation, &m.Ready,
		&m.MasterKeySHA256, &m.Expires, &m.Cleared, &m.Draining, &m.Zone, &m.PublishPort, &m.RetPort, &m.Relay}
}

func scanMinion(rows *sql.Rows) (m fleet.Minion, err error) {
	return m, scan(rows, minionFields(&m))
}

func scanMaster(rows *sql.Rows) (m fleet.Master, err error) {
	return m, scan(rows, masterFields(&m))
}

// scan reads one row and proves it: SQLite has no checksums of its own, so that
// a flipped bit within a value would pass its integrity check.
func scan(rows *sql.Rows, fields []any) error {
	var sum int64
	switch err := rows.Scan(append(fields, &sum)...); {
	case rows.Err() != nil: // the context ended
		return rows.Err()
	case err != nil:
		return damaged(err.Error())
	case sum != checksum(fields...):
		return damaged(fmt.Sprintf("row %q does not have its checksum", text(fields[0])))
	}
	return nil
}

// each hands every row to f. It closes rows.
func each[T any](rows *sql.Rows, scan func(*sql.Rows) (T, error), f func(T)) error {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		row, err := scan(rows)
		if err != nil {
			return err
		}
		f(row)
	}
	return rows.Err()
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
	var buf []byte
	for i, f := range fields {
		if v := text(f); v != "" {
			buf = fmt.Appendf(buf, "%d=%d:%s;", i, len(v), v)
		}
	}
	return int64(crc32.ChecksumIEEE(buf))
}

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
		return number(*v, *v)
	case *int:
		return number(*v, *v != 0)
	case *int64:
		return number(*v, *v != 0)
	case **int:
		if *v == nil {
			return ""
		}
		return number(**v, true) // NULL is the zero value, and 0 is not
	}
	panic(fmt.Sprintf("checksum of a %T", field))
}

func number(v any, there bool) string {
	if !there {
		return ""
	}
	return fmt.Sprint(v)
}
