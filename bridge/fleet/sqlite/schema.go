package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"phoenix/bridge/fleet"
)

// migrations[i] brings schema version i to i+1. A step that has shipped is never
// edited: add the next one. A column that a step adds has the zero value as its
// default, so that the checksums of the rows there still hold (see checksum).
func migrations() []string {
	return []string{`
CREATE TABLE meta (
	key   TEXT PRIMARY KEY NOT NULL,
	value TEXT NOT NULL,
	sum   INTEGER NOT NULL
) STRICT;
CREATE TABLE minions (
	instanceid        TEXT PRIMARY KEY NOT NULL,
	status            TEXT NOT NULL,
	modified          TEXT NOT NULL,
	highstate_ran     INTEGER NOT NULL,
	highstate_runner  TEXT NOT NULL,
	minion_id         TEXT NOT NULL,
	"group"           TEXT NOT NULL,
	key_sha256        TEXT NOT NULL,
	public_key        TEXT NOT NULL,
	claim_version     INTEGER NOT NULL,
	claim_owner       TEXT NOT NULL,
	claim_incarnation TEXT NOT NULL,
	claim_jid         TEXT NOT NULL,
	claim_state       TEXT NOT NULL,
	attempt           INTEGER NOT NULL,
	retcode           INTEGER,
	expires           INTEGER NOT NULL,
	sum               INTEGER NOT NULL
) STRICT;
CREATE INDEX by_status ON minions (status, modified, instanceid);
CREATE INDEX by_expires ON minions (expires) WHERE expires > 0;
CREATE TABLE masters (
	instanceid        TEXT PRIMARY KEY NOT NULL,
	status            TEXT NOT NULL,
	modified          TEXT NOT NULL,
	ipaddr            TEXT NOT NULL,
	heartbeat         INTEGER NOT NULL,
	incarnation       TEXT NOT NULL,
	ready             INTEGER NOT NULL,
	master_key_sha256 TEXT NOT NULL,
	expires           INTEGER NOT NULL,
	sum               INTEGER NOT NULL
) STRICT;
CREATE TABLE proofs (
	instance_arn      TEXT PRIMARY KEY NOT NULL,
	key_sha256        TEXT NOT NULL,
	modified          TEXT NOT NULL,
	sum               INTEGER NOT NULL
) STRICT;`, `
ALTER TABLE minions ADD COLUMN hook_name TEXT NOT NULL DEFAULT '';
ALTER TABLE minions ADD COLUMN inferred INTEGER NOT NULL DEFAULT 0;`, `
ALTER TABLE masters ADD COLUMN cleared INTEGER NOT NULL DEFAULT 0;`, `
ALTER TABLE masters ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;
ALTER TABLE masters ADD COLUMN zone TEXT NOT NULL DEFAULT '';
ALTER TABLE masters ADD COLUMN publish_port INTEGER NOT NULL DEFAULT 0;
ALTER TABLE masters ADD COLUMN ret_port INTEGER NOT NULL DEFAULT 0;
ALTER TABLE masters ADD COLUMN relay TEXT NOT NULL DEFAULT '';
ALTER TABLE masters ADD COLUMN minions INTEGER NOT NULL DEFAULT 0;`, `
ALTER TABLE masters ADD COLUMN connected INTEGER NOT NULL DEFAULT 0;`, `
ALTER TABLE masters ADD COLUMN queued INTEGER NOT NULL DEFAULT 0;`, `
ALTER TABLE minions ADD COLUMN replaced_sha256 TEXT NOT NULL DEFAULT '';`, `
ALTER TABLE masters ADD COLUMN draining_since TEXT NOT NULL DEFAULT '';`,
	}
}

// The keys of meta.
const (
	metaSchema = "schema"
	metaSince  = "since"
)

// begin makes the schema in an empty file, and the mark of when this fleet began.
func begin(ctx context.Context, db *sql.DB, o options) error {
	return inTx(ctx, db, o.lockWait, func(tx *sql.Tx) error {
		if err := upgrade(ctx, tx, 0, o.steps); err != nil {
			return err
		}
		return writeMeta(ctx, tx, metaSince, fleet.FormatTime(o.now()))
	})
}

// migrate brings an older file up to date. For one who writes, it tries a write even
// when there is nothing to do, and takes that back, so that a file that is read-only is
// told at once: for such a one SQLite turns BEGIN IMMEDIATE into BEGIN. One who only
// reads takes no lock that a writer must give: SQLite has no queue for it, so that a
// busy writer could keep a reader out for all of lockWait.
func migrate(ctx context.Context, s *Store) error {
	if s.existing {
		if version, err := readVersion(ctx, s.read, s.steps); err != nil || version == len(s.steps) {
			return err
		}
	}
	tx, err := beginWrite(ctx, s.write, s.lockWait)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing
	version, err := readVersion(ctx, tx, s.steps)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE meta SET value = value`); err != nil {
		return err
	}
	if version == len(s.steps) {
		return nil
	}
	if err := upgrade(ctx, tx, version, s.steps); err != nil {
		return err
	}
	return tx.Commit()
}

// readVersion returns the version of the schema, and refuses one that is newer than
// the steps that this phoenix knows.
func readVersion(ctx context.Context, q querier, steps []string) (int, error) {
	text, err := readMeta(ctx, q, metaSchema)
	if err != nil {
		return 0, err
	}
	version, err := strconv.Atoi(text)
	if err != nil {
		return 0, damaged("schema version: " + err.Error())
	}
	if version > len(steps) {
		return 0, &fault{fleet.ErrDenied,
			fmt.Errorf("its schema is version %d, this phoenix knows %d", version, len(steps)),
			"a newer phoenix has used it: install that version here too"}
	}
	return version, nil
}

func upgrade(ctx context.Context, tx *sql.Tx, version int, steps []string) error {
	for _, step := range steps[version:] {
		if _, err := tx.ExecContext(ctx, step); err != nil {
			return err
		}
	}
	return writeMeta(ctx, tx, metaSchema, strconv.Itoa(len(steps)))
}

func readSince(ctx context.Context, db *sql.DB) (time.Time, error) {
	text, err := readMeta(ctx, db, metaSince)
	if err != nil {
		return time.Time{}, err
	}
	since, err := fleet.ParseTime(text)
	if err != nil {
		return time.Time{}, damaged("since: " + err.Error())
	}
	return since, nil
}

func readMeta(ctx context.Context, q querier, key string) (value string, err error) {
	var sum int64
	err = q.QueryRowContext(ctx, `SELECT value, sum FROM meta WHERE key = ?`, key).Scan(&value, &sum)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", damaged("meta has no " + key)
	case err != nil:
		return "", err
	case sum != checksum(key, value):
		return "", damaged("meta: " + key + " does not have its checksum")
	}
	return value, nil
}

// readNumbered reads a record of meta that is a number, a space and a text. A store
// that never had one lacks the key: that is 0 and no text.
func readNumbered(ctx context.Context, q querier, key string) (n int64, text string, err error) {
	var there int
	err = q.QueryRowContext(ctx, `SELECT 1 FROM meta WHERE key = ?`, key).Scan(&there)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", err
	}
	value, err := readMeta(ctx, q, key)
	if err != nil {
		return 0, "", err
	}
	number, text, _ := strings.Cut(value, " ")
	if n, err = strconv.ParseInt(number, 10, 64); err != nil {
		return 0, "", damaged("meta: " + key + ": " + err.Error())
	}
	return n, text, nil
}

func writeMeta(ctx context.Context, tx *sql.Tx, key, value string) error {
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO meta (key, value, sum) VALUES (?, ?, ?)`,
		key, value, checksum(key, value))
	return err
}
