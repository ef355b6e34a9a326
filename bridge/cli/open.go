package cli

import (
	"cmp"
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
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/dynamo"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/salt"
)

// existing says what is done where there is no SQLite file yet.
type existing int

const (
	mayMake   existing = iota // it is made
	mustExist                 // it is an error: who only reads makes no second, empty fleet
	maybeNone                 // an empty fleet stands in for it, and is gone afterwards: a dry run before the first start
)

// openStore opens the store that the configuration names. waits, if not nil, is
// told when it takes longer.
func openStore(ctx context.Context, cfg config.Config, file existing, waits func(error)) (fleet.Store, error) {
	if cfg.OnDynamoDB() {
		tables, err := tables(ctx, cfg)
		if err != nil {
			return nil, err
		}
		tables.Waits = waits
		return dynamo.Open(ctx, tables)
	}
	path := strings.TrimPrefix(cfg.Store, "sqlite:")
	if file == mayMake {
		return sqlite.Open(ctx, path)
	}
	store, err := sqlite.OpenExisting(ctx, path)
	if file == maybeNone && errors.Is(err, fs.ErrNotExist) {
		return emptyStore(ctx)
	}
	if err != nil {
		return nil, err
	}
	return store, nil
}

// emptyStore is one of no minions, which leaves nothing behind.
func emptyStore(ctx context.Context) (fleet.Store, error) {
	dir, err := os.MkdirTemp("", "phoenix-dry-run-")
	if err != nil {
		return nil, fmt.Errorf("open empty store: %w", err)
	}
	store, err := sqlite.Open(ctx, filepath.Join(dir, "fleet.db"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &scratch{store, dir}, nil
}

// scratch is a store that ends with the command.
type scratch struct {
	fleet.Store
	dir string
}

// Close implements fleet.Store.
func (s *scratch) Close() error { return errors.Join(s.Store.Close(), os.RemoveAll(s.dir)) }

// tables say where the store is in DynamoDB.
func tables(ctx context.Context, c config.Config) (dynamo.Config, error) {
	loaded, err := loadAWS(ctx, c)
	if err != nil {
		return dynamo.Config{}, err
	}
	d := c.DynamoDB
	return dynamo.Config{Region: cmp.Or(d.Region, loaded.Region), Endpoint: d.Endpoint,
		MinionsTable: d.MinionsTable, MastersTable: d.MastersTable, ProofsTable: d.ProofsTable}, nil
}

// held are the configuration and the store of a bridge, for the commands that it
// runs itself; see command.
type held struct {
	cfg   config.Config
	store fleet.Store
}

type heldContext struct{}

// checkStore reads a whole SQLite file, as a bridge does at its start. Rows that
// cannot be decoded are named, and hold nothing else up.
func checkStore(ctx context.Context, store fleet.Store, log *slog.Logger) error {
	s, is := store.(*sqlite.Store)
	if !is {
		return nil
	}
	bad, err := fleet.WithoutBadRows(s.Check(ctx))
	for _, id := range slices.Sorted(maps.Keys(bad)) {
		log.Error("row of the store left out: it cannot be decoded", "id", id, "err", bad[id])
	}
	return err
}

// action is a command that needs a store.
type action func(c *cli.Context, cfg config.Config, store fleet.Store) error

// withStore runs do with configuration and store. There must be one.
func withStore(do action) cli.ActionFunc { return openFor(mustExist, do) }

// makingStore is withStore for what may come first on a machine. In a dry run it
// makes nothing.
func makingStore(do action) cli.ActionFunc { return openFor(mayMake, do) }

func openFor(file existing, do action) cli.ActionFunc {
	return func(c *cli.Context) error {
		file := file
		if c.Bool("dry-run") {
			file = maybeNone
		}
		if h, ok := c.Context.Value(heldContext{}).(held); ok {
			return do(c, h.cfg, h.store)
		}
		cfg, err := readConfig(c)
		if err != nil {
			return err
		}
		var waits func(error)
		if c.Command.Name != bridgeName { // which has a log
			var once sync.Once
			waits = func(err error) {
				once.Do(func() { fmt.Fprintf(c.App.ErrWriter, "note: %s; trying on\n", describeError(err)) })
			}
		}
		store, err := openStore(c.Context, cfg, file, waits)
		if err != nil {
			return err
		}
		defer store.Close()
		if _, none := store.(*scratch); none {
			fmt.Fprintf(c.App.ErrWriter, "note: there is no store %s yet: this is told of an empty fleet\n", cfg.Store)
		}
		return do(c, cfg, store)
	}
}

// openSalt reads the master's own configuration, and opens its key store and its
// request channel.
func openSalt(cfg config.Config) (salt.Config, *salt.Keys, *salt.Master, error) {
	master, err := salt.ReadConfig(cfg.SaltConfig)
	if err == nil {
		err = master.Validate()
	}
	if err != nil {
		return master, nil, nil, usageError(fmt.Errorf("salt_config: %w", err))
	}
	keys, err := salt.OpenKeys(master)
	if err != nil {
		return master, nil, nil, err
	}
	client, err := salt.NewMaster(master)
	return master, keys, client, err
}

// tellWithin bounds the hint to the bridge: it only saves waiting.
const tellWithin = 2 * time.Second

// tell lets a bridge on this machine know at once that rows were changed. None
// may be running here; each bridge finds out by itself.
func tell(c *cli.Context, cfg config.Config, ids ...string) {
	ctx, cancel := context.WithTimeout(c.Context, tellWithin)
	defer cancel()
	err := api.NewClient(cfg.Socket).Look(ctx, ids)
	switch {
	case err == nil || c.Bool("json") || c.Bool("quiet"):
	case errors.Is(err, fs.ErrPermission):
		fmt.Fprintf(c.App.ErrWriter, "note: no permission to tell the bridge on %s (run as root or as the master's user); it finds out within a few minutes\n", cfg.Socket)
	default:
		fmt.Fprintf(c.App.ErrWriter, "note: no bridge answers on %s; the bridges find out within a few minutes\n", cfg.Socket)
	}
}
