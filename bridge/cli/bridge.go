package cli

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/compose"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
	"phoenix/bridge/ui"
)

// bridgeName is the command of the service.
const bridgeName = "bridge"

func bridgeCommand() *cli.Command {
	return &cli.Command{
		Name:  bridgeName,
		Usage: "run beside a Salt master: accept keys, run first highstates (a service)",
		Description: "Runs as root or as the master's user until it is stopped. While the master or the store does not\n" +
			"answer, it waits and tries again; nothing is lost. --dry-run names each id for which it would act, and counts\n" +
			"all. Of the keys that it leaves as they are, foreign ones are accepted and not in the fleet, unlisted ones are\n" +
			"pending and not in the fleet.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "dry-run",
			Usage: "show what would be done now, change nothing, and exit"}},
		Action: makingStore(runBridge),
	}
}

func runBridge(c *cli.Context, cfg config.Config, store fleet.Store) error {
	log, err := newLogger(c, cfg)
	if err != nil {
		return err
	}
	if err := open.Check(c.Context, store, log); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return compose.DryRun(c.Context, cfg, store, log, c.App.Writer)
	}
	return compose.Bridge(c.Context, cfg, store,
		compose.Options{Version: version, Log: log, Operate: operate, Translate: translate,
			Pages: func(cfg config.Config, store fleet.Store) http.Handler {
				return ui.Handler(admin.Admin{Config: cfg, Store: store, By: "ui", Log: log}, log)
			},
			Watch: func(ctx context.Context, cfg config.Config, store fleet.Store) error {
				return admin.Admin{Config: cfg, Store: store, By: admin.Bridge, Log: log}.WatchOtherKeys(ctx)
			}})
}

func newLogger(c *cli.Context, cfg config.Config) (*slog.Logger, error) {
	level, err := config.LogLevel(cfg.LogLevel)
	if err != nil {
		return nil, usageError(err)
	}
	return slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: level})), nil
}
