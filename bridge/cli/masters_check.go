package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
)

// errNotSafe ends masters check with exit code 1.
var errNotSafe = errors.New("a restart is not safe now")

func mastersCheckCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "report whether a master can be restarted now: which minions move, what runs, which masters serve",
		ArgsUsage: "[ID]",
		Description: "Without an id it is about the master of this machine. Exit code 0: another master serves, and no first highstate runs from this one. 1: it is not safe, and the\n" +
			"reasons are printed. It changes nothing; phoenix masters drain does.",
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
		verdict := "safe"
		if !check.Safe {
			verdict = "NOT SAFE: " + strings.Join(check.Why, "; ")
		}
		t.row("a restart now is", verdict)
		t.row("others that serve", strings.Join(check.Ready, ", "))
		t.row("minions connected to it", check.Connected)
		t.row("first highstates it runs", strings.Join(check.Running, ", "))
		t.row("first highstates that wait, of all masters", check.Waiting)
		t.row("drained", map[bool]string{true: "yes", false: "no (phoenix masters drain " + id + ")"}[check.Draining])
		err = t.flush()
	}
	if err == nil && !check.Safe {
		err = fmt.Errorf("check master %s: %w: %s", id, errNotSafe, strings.Join(check.Why, "; "))
	}
	return err
}
