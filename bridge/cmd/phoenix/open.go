package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/api"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/dynamo"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/salt"
)

// openStore opens the store that the configuration names. waits, if not nil, is
// told when it takes longer.
func openStore(ctx context.Context, config Config, waits func(error)) (fleet.Store, error) {
	if config.onDynamoDB() {
		tables, err := config.tables(ctx)
		if err != nil {
			return nil, err
		}
		tables.Waits = waits
		return dynamo.Open(ctx, tables)
	}
	return sqlite.Open(ctx, strings.TrimPrefix(config.Store, "sqlite:"))
}

// tables say where the store is in DynamoDB.
func (c *Config) tables(ctx context.Context) (dynamo.Config, error) {
	loaded, err := loadAWS(ctx, *c)
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
	config Config
	store  fleet.Store
}

type heldContext struct{}

// withStore runs do with configuration and store.
func withStore(do func(c *cli.Context, config Config, store fleet.Store) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if h, ok := c.Context.Value(heldContext{}).(held); ok {
			return do(c, h.config, h.store)
		}
		config, err := readConfig(c)
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
		store, err := openStore(c.Context, config, waits)
		if err != nil {
			return err
		}
		defer store.Close()
		return do(c, config, store)
	}
}

// openSalt reads the master's own configuration, and opens its key store and its
// request channel.
func openSalt(config Config) (salt.Config, *salt.Keys, *salt.Master, error) {
	master, err := salt.ReadConfig(config.SaltConfig)
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
func tell(c *cli.Context, config Config, ids ...string) {
	ctx, cancel := context.WithTimeout(c.Context, tellWithin)
	defer cancel()
	err := api.NewClient(config.Socket).Look(ctx, ids)
	switch {
	case err == nil || c.Bool("json") || c.Bool("quiet"):
	case errors.Is(err, fs.ErrPermission):
		fmt.Fprintf(c.App.ErrWriter, "note: no permission to tell the bridge on %s (run as root or as the master's user); it finds out within a few minutes\n", config.Socket)
	default:
		fmt.Fprintf(c.App.ErrWriter, "note: no bridge answers on %s; the bridges find out within a few minutes\n", config.Socket)
	}
}
