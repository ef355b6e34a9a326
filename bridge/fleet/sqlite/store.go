// Package sqlite keeps the fleet in one SQLite file, which the processes of one
// machine share: the bridge, and each phoenix command beside it.
//
// # Caveats
//
// A write is durable when it returns: WAL with synchronous=FULL. Each row
// carries a checksum, so that a damaged row is named and never believed. Check
// reads the whole file, so that a damaged one is not taken for a smaller fleet: it
// is for the bridge, at its start, since it takes time (see its comment). One thing
// is not seen: damage to the -wal file of a process that was killed. SQLite cannot
// tell it from a write that the kill cut short, and goes back to the last whole
// transaction before it.
//
// Each call looks whether the file that was opened is still the one at its path.
// Without that, a process would go on with a file that was deleted or replaced, and
// all others with another.
//
// The file belongs on a local disk. SQLite's locks do not hold over NFS.
package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"phoenix/bridge/fleet"
	"phoenix/bridge/retry"
)

const (
	// lockWait bounds the wait for another process's write. A write of 200 rows
	// takes some 30 ms, so that a hundred such may go first; a wait that is
	// longer means a stopped process that holds the lock.
	lockWait = 10 * time.Second
	// lockPoll bounds what SQLite itself waits for the write lock, in one try of ours. It
	// has no queue for the lock: it sleeps and looks, for up to 100 ms each time, so that
	// writers which leave it free for a moment only could keep another out for all of
	// lockWait. In its first 20 ms it looks five times.
	lockPoll = 20 * time.Millisecond
	// callLimit bounds every call: the wait for the lock, and as much again for
	// the work and for goroutines of this process that came first. Well under
	// highstate.lease, so that an owner learns in time that it cannot write.
	callLimit = 20 * time.Second
	// pageRows is the most rows that ByStatus holds at once: 1.5 MB of keys.
	pageRows = 1000
	// idsPerQuery keeps the list of ids under SQLite's limit of variables.
	idsPerQuery = 500
	// readers: one for the bridge's loops, one for a command's long listing.
	readers = 2
	// cacheKB is each connection's page cache. The working set is the upper
	// levels of two indexes; the kernel caches the rest.
	cacheKB = 512
)

// Store is a fleet.Store in an SQLite file.
type Store struct {
	options
	path  string
	read  *sql.DB
	write *sql.DB // one connection: writers of this process queue in Go, with their contexts
	since time.Time
	file  os.FileInfo // as it was opened

	nextPurge atomic.Int64 // Unix seconds
}

var _ fleet.Store = (*Store)(nil)

// Open opens the store at path, and makes it if there is no file. It brings an
// older schema up to date and refuses a newer one.
func Open(ctx context.Context, path string) (*Store, error) {
	return open(ctx, path, usual())
}

// OpenExisting is Open for those who only read: if there is no file, it makes
// none, and the error is fleet.ErrUnavailable and fs.ErrNotExist.
func OpenExisting(ctx context.Context, path string) (*Store, error) {
	o := usual()
	o.existing = true
	return open(ctx, path, o)
}

// OpenCopy is OpenExisting for a copy of the store of that name, which errors name.
func OpenCopy(ctx context.Context, path, name string) (*Store, error) {
	o := usual()
	o.existing, o.name = true, name
	return open(ctx, path, o)
}

// options are what tests choose.
type options struct {
	now      func() time.Time
	lockWait time.Duration
	steps    []string // see migrations
	existing bool     // make no file
	name     string   // what errors call the store; empty: its path
}

func usual() options {
	return options{now: time.Now, lockWait: lockWait, steps: migrations()}
}

func open(ctx context.Context, path string, o options) (_ *Store, err error) {
	o.name = cmp.Or(o.name, path)
	s := &Store{path: path, options: o}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	call, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := ready(call, path, o); err != nil {
		return nil, s.explain(ctx, "open", err)
	}
	// Before the connections: what takes the file's place meanwhile is noticed.
	if s.file, err = os.Stat(path); err != nil {
		return nil, s.explain(ctx, "open", err)
	}
	if s.write, err = connect(path, 1, lockPoll, "_txlock=immediate"); err != nil {
		return nil, s.explain(ctx, "open", err)
	}
	if s.read, err = connect(path, readers, o.lockWait, "_query_only=1"); err != nil {
		return nil, s.explain(ctx, "open", err)
	}
	if err := migrate(call, s); err != nil {
		return nil, s.explain(ctx, "open", err)
	}
	if s.since, err = readSince(call, s.read); err != nil {
		return nil, s.explain(ctx, "open", err)
	}
	return s, nil
}

// connect returns a pool of connections to an existing file. mode=rw: if the file
// vanished meanwhile, that is an error and not a new, empty fleet.
func connect(path string, conns int, wait time.Duration, option string) (*sql.DB, error) {
	dsn := (&url.URL{Scheme: "file", OmitHost: true, Path: path}).String() +
		fmt.Sprintf("?mode=rw&_dqs=0&_error_rc=1&_busy_timeout=%d&_pragma=cache_size(-%d)&_synchronous=FULL&%s",
			wait.Milliseconds(), cacheKB, option)
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// Close lets go of the file. The last process to do so folds the -wal file in.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close store %s: %w", s.name, err)
	}
	return nil
}

// Since implements fleet.Store.
func (s *Store) Since(ctx context.Context) (time.Time, error) {
	return s.since, ctx.Err()
}

// Check reads the whole file: its pages and indexes by SQLite's own check, each
// row by its checksum. It takes some 90 ms with 10,000 rows. Damaged rows are a
// *fleet.BadRowsError: everything else is whole.
func (s *Store) Check(ctx context.Context) error {
	bad := map[string]error{}
	err := s.call(ctx, "check", func(ctx context.Context) error {
		var said string
		if err := s.read.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&said); err != nil {
			return err
		}
		if said != "ok" {
			return damaged(said)
		}
		rows, err := s.read.QueryContext(ctx, selectMinions)
		if err != nil {
			return err
		}
		more, err := each(rows, scanMinion, func(fleet.Minion) {})
		if err != nil {
			return err
		}
		maps.Copy(bad, more)
		_, more, err = readMasters(ctx, s.read)
		maps.Copy(bad, more)
		return err
	})
	if err != nil {
		return err
	}
	return fleet.BadRows(bad)
}

// call bounds f in time and explains its error. It looks for the file before f and,
// since f may have opened a connection, after it.
func (s *Store) call(ctx context.Context, verb string, f func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	err := bounded.Err()
	if err == nil {
		err = s.inPlace()
	}
	if err == nil {
		if err = f(bounded); err == nil {
			err = s.inPlace()
		}
	}
	return s.explain(ctx, verb, err)
}

// inPlace reports whether the file at the path is the one that was opened. It costs
// some microseconds.
func (s *Store) inPlace() error {
	now, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &fault{fleet.ErrUnavailable, err,
			"the file was removed or renamed while in use: put it back, or start phoenix again"}
	case err != nil:
		return err
	case !os.SameFile(now, s.file):
		return &fault{fleet.ErrCorrupt, errors.New("another file has taken its place"),
			"it was replaced while in use: start phoenix again, which then works with the one that is there now"}
	}
	return nil
}

// update runs f in one write transaction.
func (s *Store) update(ctx context.Context, verb string, f func(context.Context, *sql.Tx) error) error {
	return s.call(ctx, verb, func(ctx context.Context) error {
		return inTx(ctx, s.write, s.lockWait, func(tx *sql.Tx) error { return f(ctx, tx) })
	})
}

// inTx runs f in a transaction, for whose lock it waits.
func inTx(ctx context.Context, db *sql.DB, wait time.Duration, f func(*sql.Tx) error) error {
	tx, err := beginWrite(ctx, db, wait)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// beginWrite begins a transaction that writes, and waits for the lock of other processes
// until wait has passed or ctx ends.
func beginWrite(ctx context.Context, db *sql.DB, wait time.Duration) (*sql.Tx, error) {
	for until := time.Now().Add(wait); ; {
		tx, err := db.BeginTx(ctx, nil)
		if err == nil || !isBusy(err) || time.Now().After(until) {
			return tx, err
		}
		// SQLite may refuse without a wait of its own.
		if !retry.Sleep(ctx, time.Millisecond) {
			return nil, err
		}
	}
}
