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
		Usage: "make tombstones of minions that were terminated long ago, and delete what has expired",
		Description: "Bridges do both by themselves: a terminated minion's row is stripped after a day, and deleted 30 days later.\n" +
			"Until then the tombstone keeps a message that comes late from reviving the instance.",
		Flags: []cli.Flag{jsonFlag,
			&cli.DurationFlag{Name: "older", Value: fleet.TombstoneAfter, Usage: "strip rows that were terminated so long ago"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say how many rows are due, and do nothing"}},
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
	_, err = fmt.Fprintf(c.App.Writer, "%d stripped, %d deleted, %d terminated are left\n", out.Stripped, out.Deleted, out.Left)
	return cmp.Or(err, nameBad(c, bad))
}
