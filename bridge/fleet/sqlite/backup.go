package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"phoenix/bridge/files"
	"phoenix/bridge/fleet"
)

// ErrOpen is returned by Replace when another process has the store open.
var ErrOpen = errors.New("another process has the store open (systemctl stop phoenix-bridge); if none has, move its -wal and -shm files away")

// Backup writes a copy of the store at path to a file that does not exist yet, while
// bridges go on writing: all rows as of one moment. The copy is read from the first
// page to the last before it has its name.
func Backup(ctx context.Context, path, to string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("back up store %s to %s: %w", path, to, bare(err))
		}
	}()
	if err := free(to); err != nil {
		return err
	}
	s, err := OpenExisting(ctx, path)
	if err != nil {
		return err
	}
	temp := to + ".part"
	if err = makeEmpty(temp); err == nil {
		err = s.call(ctx, "back up", func(ctx context.Context) error {
			_, err := s.write.ExecContext(ctx, `VACUUM INTO ?`, temp)
			if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqlite3.SQLITE_FULL {
				return &fault{fleet.ErrUnavailable, e, "make room in " + filepath.Dir(to)}
			}
			return err
		})
	}
	if err = errors.Join(err, s.Close()); err == nil {
		err = verify(ctx, temp, path)
	}
	if err == nil {
		err = publish(temp, to)
	}
	if err != nil {
		_ = os.Remove(temp)
	}
	return err
}

// free returns an error unless a file of that name can be made.
func free(to string) error {
	switch info, err := os.Lstat(to); {
	case err == nil && info.IsDir():
		return errors.New("that is a folder: name a file in it")
	case err == nil:
		return fmt.Errorf("%w (name another file, such as one with the date)", fs.ErrExist)
	}
	dir := filepath.Dir(to)
	if info, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no folder %s (mkdir -p %s)", dir, dir)
	} else if err == nil && !info.IsDir() {
		return fmt.Errorf("%s is no folder", dir)
	}
	return nil
}

// makeEmpty makes a file of ours alone, since it will have keys; VACUUM INTO takes an empty
// one.
func makeEmpty(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Restoring is a backup that was read in full and lies beside the store that it can replace.
type Restoring struct{ from, path, temp string }

// PrepareRestore copies a backup beside the store at path and reads all of it. It changes
// nothing of the store.
func PrepareRestore(ctx context.Context, from, path string) (_ *Restoring, err error) {
	r := &Restoring{from, path, path + ".part"}
	defer func() {
		if err != nil {
			r.Close()
			err = fmt.Errorf("restore store %s: %w; the store is unchanged", path, err)
		}
	}()
	if err := copyFile(from, r.temp); err != nil {
		hint := ""
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			hint = " (make room in " + filepath.Dir(path) + ")"
		}
		return nil, fmt.Errorf("copy %s: %w%s", from, bare(err), hint)
	}
	if err := verify(ctx, r.temp, from); err != nil {
		if f, ok := errors.AsType[*fault](err); ok && f.kind == fleet.ErrCorrupt { // not that of the store
			return nil, fmt.Errorf("%s is no backup of a store, or a damaged one: %w", from, f.cause)
		}
		return nil, err
	}
	if err := useWAL(ctx, r.temp); err != nil {
		return nil, err
	}
	return r, nil
}

// Close removes what PrepareRestore has made, if it is not the store by now.
func (r *Restoring) Close() { _ = os.Remove(r.temp) }

// Replace puts the backup in the place of the store, if no other process has it open. What
// was there before stays beside it, under the name that is returned; it is empty if there was
// none.
func (r *Restoring) Replace(ctx context.Context) (before string, err error) {
	path := r.path
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore store %s from %s: %w", path, r.from, bare(err))
		}
	}()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		for _, suffix := range []string{"-wal", "-shm"} { // SQLite would apply them to the new file
			if _, err := os.Lstat(path + suffix); err == nil {
				return "", fmt.Errorf("%s%s is left of another store: move it away", path, suffix)
			}
		}
		return "", publish(r.temp, path)
	} else if err != nil {
		return "", err
	}
	// The last process that closes a store folds its -wal file in. A new file beside a
	// -wal of the old one would be damaged by it.
	if old, err := OpenExisting(ctx, path); err == nil {
		if err := old.Close(); err != nil {
			return "", err
		}
	} else if !errors.Is(err, fleet.ErrCorrupt) {
		return "", err
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Lstat(path + suffix); err == nil {
			return "", ErrOpen
		}
	}
	before = path + ".before-" + time.Now().UTC().Format("20060102T150405.000000Z")
	if err := os.Link(path, before); err != nil { // at no moment is there no store: a bridge would make an empty one
		return "", err
	}
	return before, publish(r.temp, path)
}

// verify opens a copy of a store that nobody else uses, brings its schema up to date, and
// reads all of it.
func verify(ctx context.Context, path, name string) error {
	s, err := OpenCopy(ctx, path, name)
	if err != nil {
		return err
	}
	_, err = fleet.WithoutBadRows(s.Check(ctx)) // a bad row is in the backup as it is in the store
	return errors.Join(err, s.Close())
}

// publish gives a file its name, durably.
func publish(temp, to string) error {
	f, err := os.Open(temp)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Rename(temp, to)); err != nil {
		return err
	}
	return files.SyncFolder(filepath.Dir(to))
}

// useWAL sets how a store is written, which VACUUM INTO does not copy.
func useWAL(ctx context.Context, path string) error {
	db, err := connect(path, 1, lockWait, "_txlock=immediate")
	if err != nil {
		return err
	}
	var mode string
	err = db.QueryRowContext(ctx, `PRAGMA journal_mode=WAL`).Scan(&mode)
	if err == nil && mode != "wal" {
		err = fmt.Errorf("journal_mode is %s", mode)
	}
	return errors.Join(err, db.Close())
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, giveToOwner(out, filepath.Dir(to)), out.Sync(), out.Close())
}
