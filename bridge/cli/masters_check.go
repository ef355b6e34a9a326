package cli

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
)

// errNotSafe ends masters check with exit code 1.
var errNotSafe = errors.New("a restart is not known to be safe now")

func mastersCheckCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "report whether a master can be restarted now: which minions move, what runs, which masters serve",
		ArgsUsage: "[ID]",
		Description: "Without an id it is about the master of this machine. Exit code 0: another master serves, no first highstate runs\n" +
			"from this one, and no minion is connected to it, or each is connected to another master, too. 1: that is not so,\n" +
			"or not known, and the reasons are printed. Nothing tells which connected minions have an agent or several\n" +
			"masters: phoenix masters drain moves those, and those that stay do not move by themselves. It changes nothing.",
		Flags:  []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "self", Usage: "the master of this machine"}},
		Action: withStore(checkMaster),
	}
}

func checkMaster(c *cli.Context, cfg config.Config, store fleet.Store) error {
	if !c.Args().Present() && !c.Bool("self") {
		if err := c.Set("self", "true"); err != nil {
			return err
		}
	}
	id, err := oneMaster(c, cfg)
	if err != nil {
		return err
	}
	check, err := newAdmin(c, cfg, store).CheckMaster(c.Context, id)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(c.App.Writer, check)
	} else {
		t := newTable(c.App.Writer, "MASTER", id)
		t.row("a restart now is", check.Verdict)
		for _, why := range check.Why {
			t.row("because", why)
		}
		t.row("others that serve", strings.Join(check.Ready, ", "))
		connected := "not known"
		if check.Connected != nil {
			connected = strconv.Itoa(*check.Connected)
			if check.Also != "" {
				connected += ", and all minions are connected to " + check.Also + ", too"
			}
		}
		t.row("minions connected to it", connected)
		t.row("first highstates it runs", strings.Join(check.Running, ", "))
		t.row("first highstates that wait, of all masters", check.Waiting)
		t.row("draining", cmp.Or(check.Drain, "no (phoenix masters drain "+id+")"))
		err = t.flush()
	}
	if err == nil && !check.Safe {
		err = fmt.Errorf("check master %s: %w: %s", id, errNotSafe, check.Why[0])
	}
	return err
}
