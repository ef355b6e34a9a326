package cli

import (
	"cmp"
	"fmt"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/fleet"
)

func pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "reduce the rows of minions that were terminated long ago, and delete expired ones",
		Description: "Bridges do both by themselves: they reduce a terminated minion's row to a tombstone after a day, and delete it\n" +
			"30 days later. Until then the tombstone prevents a late message from reviving the instance.",
		Flags: []cli.Flag{jsonFlag,
			&cli.DurationFlag{Name: "older", Value: fleet.TombstoneAfter,
				Usage: "reduce the rows of minions that were terminated this long ago"},
			&cli.BoolFlag{Name: "dry-run", Usage: "show how many rows are due, and change nothing"}},
		Action: withStore(performing(prune)),
	}
}

func prune(c *cli.Context, a admin.Admin) error {
	older := admin.Duration(c.Duration("older"))
	out, err := a.Prune(c.Context, admin.PruneMinions{Older: &older, DryRun: c.Bool("dry-run")})
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return cmp.Or(printJSON(c.App.Writer, out), nameBad(c, bad))
	}
	_, err = fmt.Fprintf(c.App.Writer, "%d reduced, %d deleted, %d terminated are left\n", out.Stripped,
		out.Deleted, out.Left)
	return cmp.Or(err, nameBad(c, bad))
}
