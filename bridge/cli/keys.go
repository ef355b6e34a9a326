package cli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
)

func keysCommand() *cli.Command {
	return &cli.Command{
		Name:  "keys",
		Usage: "the keys that this master holds",
		Subcommands: []*cli.Command{
			{
				Name:   "list",
				Usage:  "show this master's keys, and what each is to Phoenix",
				Flags:  []cli.Flag{jsonFlag},
				Action: withStore(performing(listKeys)),
			},
			{
				Name:      "accept",
				Usage:     "accept a pending key by hand: bind it, and let its minion in",
				ArgsUsage: "ID",
				Description: "Adds the minion to the fleet if it is not there. A key that differs from the one bound to the\n" +
					"minion is accepted only with --rebind, for a machine that was rebuilt: it takes the key that is pending, denied,\n" +
					"or was unlinked by the bridge, shows both keys, asks, and ends when the minion answers. Its highstate is then\n" +
					"run again. Other masters deny the new key until the old one is deleted there (phoenix keys delete).",
				Flags:  append([]cli.Flag{jsonFlag, &cli.BoolFlag{Name: "rebind", Usage: "bind another key than the bound one"}}, rebindFlags...),
				Action: makingStore(performing(acceptKeys)),
			},
			{
				Name:      "restore",
				Usage:     "write keys as accepted again that were deleted here by hand (salt-key -d)",
				ArgsUsage: "ID… | -",
				Description: "A key that was accepted on this master, and that somebody deleted, stays away until it is restored or\n" +
					"its minion is retired; phoenix status names such minions. The bridge of this machine writes the keys that\n" +
					"are bound to them.",
				Flags:  []cli.Flag{jsonFlag},
				Action: withStore(performing(restoreKeys)),
			},
			keysDeleteCommand(),
		},
	}
}

func listKeys(c *cli.Context, a admin.Admin) error {
	keys, err := a.Keys(c.Context)
	return printRows(c, keys, err, []string{"MINION", "STATE", "STANDING", "KEY", "BOUND"}, func(k admin.Key) []any {
		return []any{k.ID, k.State, k.Standing, short(k.Digest), k.Bound}
	})
}

func acceptKeys(c *cli.Context, a admin.Admin) error {
	ids, err := operands(c)
	if err != nil {
		return err
	}
	if c.Bool("rebind") {
		if len(ids) != 1 {
			return usageError(errors.New("--rebind takes one minion id: it shows both keys"))
		}
		return rebindKey(c, a, ids[0])
	}
	rows, err := a.Accept(c.Context, admin.AcceptKeys{IDs: ids})
	switch {
	case !c.Bool("json"):
		for _, row := range rows {
			fmt.Fprintf(c.App.Writer, "%s  accepted, key %s\n", plain(row.SaltID()), short(row.KeySHA256))
		}
	case len(rows) > 0:
		err = errors.Join(err, printJSON(c.App.Writer, rows))
	}
	return err
}

func restoreKeys(c *cli.Context, a admin.Admin) error {
	ids, err := operands(c)
	if err != nil {
		return err
	}
	if ids, err = a.Restore(c.Context, admin.RestoreKeys{IDs: ids}); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, ids)
	}
	for _, id := range ids {
		fmt.Fprintf(c.App.Writer, "%s  its key is written again\n", plain(id))
	}
	return nil
}
