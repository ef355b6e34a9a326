package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"phoenix/bridge/fleet"
)

// fault is an error that knows its kind and what there is to do.
type fault struct {
	kind  error // fleet.ErrUnavailable, ErrCorrupt or ErrDenied
	cause error
	hint  string
}

func (f *fault) Error() string   { return fmt.Sprintf("%v: %v (%s)", f.kind, f.cause, f.hint) }
func (f *fault) Unwrap() []error { return []error{f.kind, f.cause} }

// damaged is a fault of the data. Its hint comes from explain, which knows the path.
func damaged(what string) *fault {
	return &fault{kind: fleet.ErrCorrupt, cause: errors.New(what)}
}

// explain turns what SQLite, the system or a context said into the errors of
// fleet.Store. ctx is the caller's.
func (s *Store) explain(ctx context.Context, verb string, err error) error {
	if err == nil {
		return nil
	}
	f := s.classify(ctx, err)
	if f.kind == fleet.ErrCorrupt && f.hint == "" {
		f.hint = fmt.Sprintf("stop phoenix-bridge, then phoenix store restore FILE puts a backup back: docs/backup.md; "+
			"without a backup, move %s aside with its -wal and -shm, and run phoenix adopt", s.name)
	}
	// The path is named once.
	if p, ok := errors.AsType[*fs.PathError](f.cause); ok && strings.HasPrefix(p.Path, s.path) {
		f.cause = p.Err
	}
	return fmt.Errorf("%s store %s: %w", verb, s.name, f)
}

// bare returns an error without the verb and the path that explain adds, for a call that
// names them itself.
func bare(err error) error {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

func (s *Store) classify(ctx context.Context, err error) *fault {
	var f *fault
	var e *sqlite.Error
	switch {
	case errors.As(err, &f):
		return f
	case ctx.Err() != nil:
		return &fault{fleet.ErrUnavailable, ctx.Err(), "the caller waits no longer"}
	case errors.As(err, &e):
		return s.classifyCode(e)
	case errors.Is(err, syscall.EROFS):
		return s.readOnly(err)
	case errors.Is(err, fs.ErrPermission):
		return s.denied(err)
	case errors.Is(err, fs.ErrNotExist):
		return s.gone(err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return s.full(err)
	case errors.Is(err, context.DeadlineExceeded):
		return &fault{fleet.ErrUnavailable, err,
			fmt.Sprintf("no answer within %s: is the disk very slow, or the lock held? (fuser %s)", callLimit, s.path)}
	}
	return &fault{fleet.ErrUnavailable, err, "it is tried again"}
}

// classifyCode goes by the primary result code, the low byte.
func (s *Store) classifyCode(e *sqlite.Error) *fault {
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return &fault{fleet.ErrUnavailable, e,
			fmt.Sprintf("another process has held the lock for %s: fuser %s names it", s.lockWait, s.path)}
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return damaged(e.Error())
	case sqlite3.SQLITE_ERROR:
		// The statements are fixed, so what they name is missing from the file.
		for _, sign := range []string{"no such ", "malformed", "unsupported file format"} {
			if strings.Contains(e.Error(), sign) {
				return damaged("not a Phoenix store: " + e.Error())
			}
		}
	case sqlite3.SQLITE_FULL:
		return s.full(e)
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return s.refused(e)
	case sqlite3.SQLITE_IOERR:
		return &fault{fleet.ErrUnavailable, e,
			"look at the kernel's log and at the free space of " + filepath.Dir(s.path)}
	}
	return &fault{fleet.ErrUnavailable, e, "it is tried again"}
}

// isBusy reports whether another process has the lock.
func isBusy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// refused finds out why SQLite may not open or write the file.
func (s *Store) refused(e *sqlite.Error) *fault {
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) || e.Code() == sqlite3.SQLITE_READONLY_DBMOVED {
		return s.gone(e)
	}
	const readWrite = 4 | 2
	for _, name := range []string{filepath.Dir(s.path), s.path, s.path + "-wal", s.path + "-shm"} {
		switch err := syscall.Access(name, readWrite); {
		case errors.Is(err, syscall.EROFS):
			return s.readOnly(e)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return s.denied(e)
		}
	}
	if e.Code()&0xff == sqlite3.SQLITE_READONLY {
		return damaged(e.Error()) // a version in the header that SQLite does not know
	}
	return &fault{fleet.ErrUnavailable, e, "are there too many open files? (ulimit -n)"}
}

func (s *Store) denied(err error) *fault {
	return &fault{fleet.ErrDenied, err,
		fmt.Sprintf("run it as root, or as the owner of %s: uid %d may not write that file or its folder", s.name,
			os.Geteuid())}
}

func (s *Store) readOnly(err error) *fault {
	return &fault{fleet.ErrDenied, err,
		fmt.Sprintf("the file system of %s is mounted read-only: mount and the kernel's log say why",
			filepath.Dir(s.path))}
}

func (s *Store) gone(err error) *fault {
	dir := filepath.Dir(s.path)
	if _, statErr := os.Stat(dir); errors.Is(statErr, fs.ErrNotExist) {
		return &fault{fleet.ErrUnavailable, err, "make the folder first: mkdir -p " + dir}
	}
	return &fault{fleet.ErrUnavailable, err, "the file was removed while in use: start phoenix again"}
}

func (s *Store) full(err error) *fault {
	return &fault{fleet.ErrUnavailable, err, "make room in " + filepath.Dir(s.path)}
}
