package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/salt"
)

func keysCommand() *cli.Command {
	return &cli.Command{
		Name:  "keys",
		Usage: "the keys on this master",
		Subcommands: []*cli.Command{
			{
				Name:      "list",
				Usage:     "show this master's keys, and the state of each in Phoenix",
				ArgsUsage: "[ID | GLOB…]",
				Flags: []cli.Flag{jsonFlag,
					&cli.StringFlag{Name: "state",
						Usage: "only keys in `STATE`: pending, accepted, denied or rejected"}},
				Action: orEmptyFleet(performing(listKeys)),
			},
			{
				Name:      "accept",
				Usage:     "accept and bind a pending key by hand",
				ArgsUsage: "ID… | -",
				Description: "Adds the minion to the fleet if it is not there. A key that differs from the one bound to the\n" +
					"minion is accepted only with --rebind, for a machine that was rebuilt. --rebind takes the key that is pending or\n" +
					"denied, that this master has accepted though another one is bound (as after the restore of an older copy of\n" +
					"the store), or that the bridge has unlinked; with --key-sha256, only that key. It may be started before the\n" +
					"machine is switched on: it waits for the minion's auth request. It prints the digests of both keys, asks for\n" +
					"confirmation (with --yes it does not), and exits when the minion answers a ping. A minion whose key was denied\n" +
					"exits, unless it has rejected_retry: True: start it (systemctl restart salt-minion). If one more key of the id\n" +
					"is denied meanwhile, its digest is printed. Exit code 9: the key is accepted, and the minion has not answered\n" +
					"within --wait. The first highstate of the minion then runs again, unless it was adopted: for such a minion, run\n" +
					"phoenix highstate run. The bridges of the other masters replace the old key, too, within two minutes.",
				Flags:  append([]cli.Flag{jsonFlag}, acceptFlags...),
				Action: makingStore(performing(acceptKeys)),
			},
			{
				Name:      "restore",
				Usage:     "restore accepted keys that were deleted here by hand (salt-key -d)",
				ArgsUsage: "ID… | -",
				Description: "If somebody deletes an accepted key on this master, Phoenix does not write it again until it is restored\n" +
					"or its minion is retired. phoenix status names such minions. The bridge of this machine writes the keys\n" +
					"that are bound to them.",
				Flags:  []cli.Flag{jsonFlag},
				Action: withStore(performing(restoreKeys)),
			},
			keysDeleteCommand(),
		},
	}
}

func listKeys(c *cli.Context, a admin.Admin) error {
	state := c.String("state")
	if _, is := salt.States[state]; state != "" && !is {
		return usageError(fmt.Errorf("--state %s is none of pending, accepted, denied, rejected", state))
	}
	keys, err := a.Keys(c.Context)
	if keys == nil {
		return err
	}
	keys, unknown := named(c, keys, func(k admin.Key) []string { return []string{k.ID} })
	keys = slices.DeleteFunc(keys, func(k admin.Key) bool { return state != "" && k.State != state })
	switch nobody := len(keys) == 0 && err == nil; {
	case nobody && unknown != nil:
		return unknown
	case nobody && a.Note != nil:
		a.Note("no key matches")
	}
	return cmp.Or(printKeys(c, keys, err), unknown)
}

func printKeys(c *cli.Context, keys []admin.Key, err error) error {
	return printRows(c, keys, err, []string{"MINION", "STATE", "PHASE", "KEY", "BOUND"}, func(k admin.Key) []any {
		return []any{k.ID, k.State, k.Phase, short(k.Digest), k.Bound}
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
	rows, err := a.Accept(c.Context, admin.AcceptKeys{IDs: ids, KeySHA256: c.String("key-sha256")})
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
	ids, err = a.Restore(c.Context, admin.RestoreKeys{IDs: ids})
	if c.Bool("json") && len(ids) > 0 {
		return errors.Join(err, printJSON(c.App.Writer, ids))
	}
	for _, id := range ids {
		fmt.Fprintf(c.App.Writer, "%s  its key is written again\n", plain(id))
	}
	return err
}
