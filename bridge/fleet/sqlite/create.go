package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"phoenix/bridge/files"
	"phoenix/bridge/fleet"
)

// ready sees to it that there is a file at path, and makes it if there is none.
//
// It never opens a file that is there: to close any descriptor of it would drop
// the POSIX locks that this process holds on it through SQLite.
func ready(ctx context.Context, path string, o options) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.existing:
		return &fault{fleet.ErrUnavailable, err,
			"there is no store yet: phoenix adopt, phoenix minions add and phoenix bridge create it; the configuration's store says where"}
	case errors.Is(err, fs.ErrNotExist):
		return create(ctx, path, o)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return &fault{fleet.ErrDenied, errors.New("not a regular file"), "store: sqlite:PATH names a file"}
	case info.Size() == 0:
		// create puts a whole file in place, so this one was cut.
		return damaged("the file is empty")
	}
	return nil
}

// create makes a whole store under another name and then links it to path: a
// file that is there is a store, whatever was killed when. Of several processes
// one wins, and the others take what it made.
func create(ctx context.Context, path string, o options) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	temp := f.Name()
	defer func() {
		for _, name := range []string{temp, temp + "-wal", temp + "-shm"} {
			_ = os.Remove(name)
		}
	}()
	if err := fill(ctx, temp, o); err != nil {
		return err
	}
	if err := giveToOwner(f, dir); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return files.SyncFolder(dir)
}

// fill writes schema and birthday. The close folds the -wal file in.
func fill(ctx context.Context, path string, o options) (err error) {
	db, err := connect(path, 1, o.lockWait, "_txlock=immediate&_journal_mode=WAL")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return begin(ctx, db, o)
}

// giveToOwner gives a file that root made to the owner of its folder: an admin's
// command may come before the first start of the bridge, which is not root.
// SQLite does the same for its -wal and -shm files.
func giveToOwner(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("stat %s: owner unknown", dir)
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
