// Package open opens what the configuration names: the store of the fleet, and the
// key store and request channel of the Salt master.
package open

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"phoenix/bridge/awsenv"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/dynamo"
	"phoenix/bridge/fleet/sqlite"
)

// Missing says what becomes of a SQLite file that does not exist.
type Missing int

const (
	// Create makes it.
	Create Missing = iota
	// Fail returns an error: a command that only reads makes no second, empty fleet.
	Fail
	// Pretend opens an empty store that is removed when it is closed, for a dry run, or
	// a list of keys, before the first start.
	Pretend
)

// Store opens the store of the fleet. waits, if not nil, is called with the reason
// when DynamoDB is tried again.
func Store(ctx context.Context, cfg config.Config, missing Missing, waits func(error)) (fleet.Store, error) {
	if cfg.OnDynamoDB() {
		tables, err := awsenv.Tables(ctx, cfg)
		if err != nil {
			return nil, err
		}
		tables.Waits = waits
		return dynamo.Open(ctx, tables)
	}
	path := strings.TrimPrefix(cfg.Store, "sqlite:")
	if missing == Create {
		Folder(path)
		return sqlite.Open(ctx, path)
	}
	store, err := sqlite.OpenExisting(ctx, path)
	if missing == Pretend && errors.Is(err, fs.ErrNotExist) {
		return emptyStore(ctx)
	}
	if err != nil {
		return nil, err
	}
	return store, nil
}

// folderMode is that of systemd's StateDirectory.
const folderMode = 0o755

// Folder makes the folder of a file, as /var/lib/phoenix, if its parent exists and
// this user may: a misspelt path makes no tree of folders. Whoever opens the file
// then reports that there is none.
func Folder(path string) { _ = os.Mkdir(filepath.Dir(path), folderMode) }

func emptyStore(ctx context.Context) (fleet.Store, error) {
	dir, err := os.MkdirTemp("", "phoenix-dry-run-")
	if err != nil {
		return nil, fmt.Errorf("open empty store: %w", err)
	}
	store, err := sqlite.Open(ctx, filepath.Join(dir, "fleet.db"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &temporary{store, dir}, nil
}

// temporary is a store that is removed when it is closed.
type temporary struct {
	fleet.Store
	dir string
}

// Close implements fleet.Store.
func (t *temporary) Close() error { return errors.Join(t.Store.Close(), os.RemoveAll(t.dir)) }

// IsTemporary reports whether Pretend made the store.
func IsTemporary(store fleet.Store) bool {
	_, is := store.(*temporary)
	return is
}

// Check reads a whole SQLite file, as a bridge does at its start. A row that cannot
// be decoded is logged and is no error.
func Check(ctx context.Context, store fleet.Store, log *slog.Logger) error {
	s, is := store.(*sqlite.Store)
	if !is {
		return nil
	}
	bad, err := fleet.WithoutBadRows(s.Check(ctx))
	for _, id := range slices.Sorted(maps.Keys(bad)) {
		log.Error("row of the store ignored: it cannot be decoded", "id", id, "err", bad[id])
	}
	return err
}
