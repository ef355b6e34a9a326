package main

import (
	"cmp"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/fleet"
)

func mastersCommand() *cli.Command {
	return &cli.Command{
		Name:  "masters",
		Usage: "the masters of the fleet",
		Subcommands: []*cli.Command{{
			Name:   "list",
			Usage:  "show the fleet's masters",
			Flags:  []cli.Flag{jsonFlag},
			Action: withStore(listMasters),
		}},
	}
}

func listMasters(c *cli.Context, _ Config, store fleet.Store) error {
	masters, err := store.Masters(c.Context)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		if masters == nil {
			masters = []fleet.Master{}
		}
		return cmp.Or(printJSON(c.App.Writer, masters), nameBad(c, bad))
	}
	t := newTable(c.App.Writer, "MASTER", "STATUS", "ADDRESS", "READY", "HEARTBEAT", "KEY", "MODIFIED")
	for _, m := range masters {
		t.row(m.InstanceID, m.Status, m.IPAddr, m.Ready, m.Heartbeat, short(m.MasterKeySHA256), m.Modified)
	}
	return cmp.Or(t.flush(), nameBad(c, bad))
}
