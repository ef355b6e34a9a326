package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"phoenix/bridge/files"
	"phoenix/bridge/fleet"
)

// ErrOpen is returned by Restore when another process has the store open.
var ErrOpen = errors.New("another process has the store open (systemctl stop phoenix-bridge); if none has, move its -wal and -shm files away")

// Backup writes a copy of the store at path to a file that does not exist yet, while
// bridges go on writing: all rows as of one moment. The copy is read from the first
// page to the last before it has its name.
func Backup(ctx context.Context, path, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("back up store %s: %s: %w (name another file, such as one with the date)", path, to, fs.ErrExist)
	}
	s, err := OpenExisting(ctx, path)
	if err != nil {
		return err
	}
	temp := to + ".part"
	err = s.call(ctx, "back up", func(ctx context.Context) error {
		if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// A file of ours alone, since it has keys; VACUUM INTO takes an empty one.
		f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		_, err = s.write.ExecContext(ctx, `VACUUM INTO ?`, temp)
		return err
	})
	if err = errors.Join(err, s.Close()); err == nil {
		err = verify(ctx, temp)
	}
	if err == nil {
		err = publish(temp, to)
	}
	if err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("back up store %s to %s: %w", path, to, err)
	}
	return nil
}

// Restore puts a backup in the place of the store at path, if no other process has it
// open. What was there before stays beside it, under the name that is returned; it is
// empty if there was none.
func Restore(ctx context.Context, from, path string) (before string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore store %s from %s: %w", path, from, err)
		}
	}()
	temp := path + ".part"
	if err := copyFile(from, temp); err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(temp) }() // it has another name by then, or is not wanted
	if err := verify(ctx, temp); err != nil {
		return "", err
	}
	if err := useWAL(ctx, temp); err != nil {
		return "", err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		for _, suffix := range []string{"-wal", "-shm"} { // SQLite would apply them to the new file
			if _, err := os.Lstat(path + suffix); err == nil {
				return "", fmt.Errorf("%s%s is left of another store: move it away", path, suffix)
			}
		}
		return "", publish(temp, path)
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
	return before, publish(temp, path)
}

// verify opens a store that nobody else uses, brings its schema up to date, and reads
// all of it.
func verify(ctx context.Context, path string) error {
	s, err := OpenExisting(ctx, path)
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
		return fmt.Errorf("%s is not a regular file", from)
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, giveToOwner(out, filepath.Dir(to)), out.Sync(), out.Close())
}
