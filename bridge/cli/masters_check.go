package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
)

// errNotSafe ends masters check with exit code 1.
var errNotSafe = exitOnly(errors.New("a restart is not known to be safe now"))

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
	id, err := oneMaster(c, &cfg)
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
		err = facts(c.App.Writer, factsOf(check))
	}
	if err == nil && !check.Safe {
		err = errNotSafe // what is printed says why
	}
	return err
}

// factsOf is what a check found, for people.
func factsOf(check *admin.MasterCheck) [][2]string {
	list := [][2]string{{"MASTER", check.InstanceID}, {"a restart now is", check.Verdict}}
	for _, why := range check.Why {
		list = append(list, [2]string{"because", why})
	}
	connected := "not known"
	if check.Connected != nil {
		connected = strconv.Itoa(*check.Connected)
		if check.Also != "" {
			connected += ", and all minions are connected to " + check.Also + ", too"
		}
	}
	drain := "no (phoenix masters drain " + check.InstanceID + ")"
	switch check.Drain {
	case "":
	case admin.Drained:
		drain = "yes, and no minion is connected any more"
	default:
		drain = "yes"
	}
	return append(list, [][2]string{
		{"others that serve", strings.Join(check.Ready, ", ")},
		{"minions connected to it", connected},
		{"first highstates it runs", strings.Join(check.Running, ", ")},
		{"first highstates waiting", fmt.Sprintf("%d, of all masters", check.Waiting)},
		{"draining", drain},
	}...)
}
