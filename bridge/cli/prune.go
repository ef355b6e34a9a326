package cli

import (
	"cmp"
	"fmt"
	"maps"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
)

func pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "make tombstones of minions that were terminated long ago, and delete what has expired",
		Description: "Bridges do both by themselves: a terminated minion's row is stripped after a day, and deleted 30 days later.\n" +
			"Until then the tombstone keeps a message that comes late from reviving the instance.",
		Flags: []cli.Flag{jsonFlag,
			&cli.DurationFlag{Name: "older", Value: fleet.StripAfter, Usage: "strip rows that were terminated so long ago"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say how many rows are due, and do nothing"}},
		Action: withStore(prune),
	}
}

// pruned is what "prune" tells.
type pruned struct {
	Stripped int `json:"stripped"`
	Deleted  int `json:"deleted"`
	Left     int `json:"left"` // terminated rows and tombstones that stay
}

func prune(c *cli.Context, _ config.Config, store fleet.Store) error {
	now := time.Now()
	var due []fleet.Change
	var out pruned
	err := store.ByStatus(c.Context, fleet.Terminate, "", func(page []fleet.Minion) error {
		for _, row := range page {
			if row.Expires != 0 && row.Expires < now.Unix() {
				out.Deleted++
				continue
			}
			out.Left++
			if s, strip := fleet.ToStrip(row, c.Duration("older"), now); strip {
				due = append(due, s)
			}
		}
		return nil
	})
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return fmt.Errorf("list terminated minions: %w", err)
	}
	out.Stripped = len(due)
	if !c.Bool("dry-run") {
		if out.Stripped, err = applyDue(c, store, due); err != nil {
			return err
		}
		out.Deleted, err = store.Prune(c.Context)
		more, err := fleet.WithoutBadRows(err)
		if err != nil {
			return fmt.Errorf("delete expired rows: %w", err)
		}
		maps.Copy(bad, more)
	}
	if c.Bool("json") {
		return cmp.Or(printJSON(c.App.Writer, out), nameBad(c, bad))
	}
	_, err = fmt.Fprintf(c.App.Writer, "%d stripped, %d deleted, %d terminated are left\n", out.Stripped, out.Deleted, out.Left)
	return cmp.Or(err, nameBad(c, bad))
}

func applyDue(c *cli.Context, store fleet.Store, due []fleet.Change) (n int, err error) {
	results, err := store.Apply(c.Context, due)
	if err != nil {
		return 0, fmt.Errorf("strip terminated minions: %w", err)
	}
	for _, r := range results {
		if r.Err == nil { // else revived meanwhile
			n++
		}
	}
	return n, nil
}
