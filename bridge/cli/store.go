package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/service"
)

func storeCommand() *cli.Command {
	return &cli.Command{
		Name:  "store",
		Usage: "the SQLite file that the fleet is stored in",
		Subcommands: []*cli.Command{
			{
				Name:      "backup",
				Usage:     "write a consistent copy of the store, while bridges run",
				ArgsUsage: "FILE",
				Description: "FILE must not exist. The copy is read in full before it gets its name. It contains the keys and addresses\n" +
					"of the fleet: only its owner may read it. For DynamoDB use AWS's own backups: docs/backup.md.",
				Flags:  []cli.Flag{jsonFlag},
				Action: withSQLite(backUp),
			},
			{
				Name:      "restore",
				Usage:     "replace the store with a backup, while no bridge runs here",
				ArgsUsage: "FILE",
				Description: "The backup is read in full before you are asked to confirm. The replaced store is kept beside it\n" +
					"under another name. The backup lacks what happened after it was made: docs/backup.md says what to do then.",
				Flags: []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "yes", Aliases: []string{"y"},
					Usage: "do not ask for confirmation"}},
				Action: withSQLite(restore),
			},
		},
	}
}

// withSQLite runs do with the paths of the store and of the one operand.
func withSQLite(do func(c *cli.Context, cfg config.Config, path, file string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		cfg, err := readConfig(c)
		if err != nil {
			return err
		}
		if cfg.OnDynamoDB() {
			return usageError(errors.New("the store is in DynamoDB: use its point-in-time recovery, or aws dynamodb create-backup (docs/backup.md)"))
		}
		if c.NArg() != 1 {
			return usageError(errors.New("one file is needed; see " + c.Command.HelpName + " --help"))
		}
		return do(c, cfg, strings.TrimPrefix(cfg.Store, "sqlite:"), c.Args().First())
	}
}

func backUp(c *cli.Context, _ config.Config, path, file string) error {
	defer progress(c, "writing the backup")()
	if err := sqlite.Backup(c.Context, path, file); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, map[string]string{"store": path, "backup": file})
	}
	_, err := fmt.Fprintf(c.App.Writer, "%s is a copy of %s\n", plain(file), plain(path))
	return err
}

// bridgeWithin bounds the question whether a bridge runs here.
const bridgeWithin = 2 * time.Second

func restore(c *cli.Context, cfg config.Config, path, file string) error {
	ctx, cancel := context.WithTimeout(c.Context, bridgeWithin)
	var report service.Report
	err := api.NewClient(cfg.Socket).Status(ctx, &report)
	cancel()
	if err == nil {
		return fmt.Errorf("restore store %s: a bridge runs here (systemctl stop phoenix-bridge)", path)
	}
	done := progress(c, "reading the backup")
	r, err := sqlite.PrepareRestore(c.Context, file, path)
	done()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := confirm(c, fmt.Sprintf("Replace the store %s with %s?", path, file)); err != nil {
		return err
	}
	before, err := r.Replace(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, map[string]string{"store": path, "before": before})
	}
	fmt.Fprintf(c.App.Writer, "%s is restored from %s\n", plain(path), plain(file))
	if before != "" {
		fmt.Fprintf(c.App.Writer, "the replaced store is kept as %s\n", plain(before))
	}
	return nil
}
