package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/awsenv"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
)

func mastersCommand() *cli.Command {
	return &cli.Command{
		Name:  "masters",
		Usage: "the masters of the fleet",
		Subcommands: []*cli.Command{
			{
				Name:   "list",
				Usage:  "show the fleet's masters",
				Flags:  []cli.Flag{jsonFlag, wideFlag},
				Action: withStore(listMasters),
			},
			mastersCheckCommand(),
			{
				Name:      "drain",
				Usage:     "move a master's minions to the others, before it stops or is maintained",
				ArgsUsage: "ID",
				Description: "Each agent removes a draining master from its list if another one is ready, at a random moment\n" +
					"within a minute or so. The master starts no first highstates; agents wait for those that run.\n" +
					"Nothing is stopped. --undo lets minions connect to it again.",
				Flags: []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "self", Usage: "the master of this machine"},
					&cli.BoolFlag{Name: "undo", Usage: "end draining"}},
				Action: withStore(drainMaster),
			},
			{
				Name:      "retire",
				Usage:     "record that a master is gone for good",
				ArgsUsage: "ID",
				Description: "Agents remove it from their lists, and other masters take over its claims. This is final for an\n" +
					"instance: its replacement needs another instance_id. On AWS, AutoScaling reports it, and you need not.",
				Flags: []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "force",
					Usage: "do it even if no other master is ready and has a moving heartbeat"}},
				Action: withStore(retireMaster),
			},
		},
	}
}

func listMasters(c *cli.Context, cfg config.Config, store fleet.Store) error {
	masters, err := newAdmin(c, cfg, store).Masters(c.Context)
	now, relays := time.Now(), relayStates(c.Context, cfg.Socket)
	if !c.Bool("wide") {
		return printRows(c, masters, err, []string{"MASTER", "STATE", "ADDRESS", "RELAY", "CONNECTED", "HEARTBEAT"},
			func(m fleet.Master) []any {
				return []any{m.InstanceID, masterState(m, cfg.Highstate.Lease, now), m.IPAddr, relayState(m, relays),
					connected(m, cfg.Highstate.Lease, now), seenAgo(m, now)}
			})
	}
	return printRows(c, masters, err, []string{"MASTER", "STATUS", "STATE", "ADDRESS", "ZONE", "KEY", "RELAY",
		"CONNECTED", "BEATS", "HEARTBEAT"}, func(m fleet.Master) []any {
		return []any{m.InstanceID, m.Status, masterState(m, cfg.Highstate.Lease, now), m.IPAddr, m.Zone,
			short(m.MasterKeySHA256), relayState(m, relays), connected(m, cfg.Highstate.Lease, now), m.Heartbeat,
			seenAgo(m, now)}
	})
}

// masterState says in words how a master stands. Its heartbeat's age is the
// difference of two hosts' clocks: for people only.
func masterState(m fleet.Master, lease time.Duration, now time.Time) string {
	if m.Status == fleet.Terminate {
		return "terminated"
	}
	ready := "NOT READY"
	if m.Ready {
		ready = "ready"
	}
	words := []string{ready}
	switch {
	case admin.Stale(m, lease, now):
		words = []string{"STALE, no heartbeat from its bridge"}
	case admin.Late(m, lease, now):
		words = []string{"LATE", "was " + ready}
	}
	if drain := admin.DrainState(m, lease, now); drain != "" {
		words = append(words, drain)
	}
	return strings.Join(words, ", ")
}

// connected is how many minions are connected to a master; nothing where its row is too
// old to say so.
func connected(m fleet.Master, lease time.Duration, now time.Time) string {
	if m.Status == fleet.Terminate || admin.Stale(m, lease, now) {
		return ""
	}
	return strconv.Itoa(m.Connected)
}

// seenAgo is how long ago a master last wrote its row, as far as clocks agree; empty for
// one that writes no more.
func seenAgo(m fleet.Master, now time.Time) string {
	if m.Status == fleet.Terminate {
		return ""
	}
	at, err := fleet.ParseTime(m.Modified)
	if err != nil {
		return m.Modified
	}
	ago := now.Sub(at).Round(time.Second)
	if ago < 0 {
		return "now"
	}
	return ago.String() + " ago"
}

// oneMaster returns the id that a command is about. With --self it identifies this machine
// in cfg, too.
func oneMaster(c *cli.Context, cfg *config.Config) (string, error) {
	ids := c.Args().Slice()
	switch self := c.Bool("self"); {
	case self && len(ids) == 0:
		_, err := awsenv.IdentifyMaster(c.Context, cfg, "")
		return cfg.InstanceID, err
	case self, len(ids) > 1:
		return "", usageError(errors.New("one master, please: ID or --self"))
	case len(ids) == 0 && has(c.Command.Flags, "self"):
		return "", usageError(fmt.Errorf("which master? %s ID (phoenix masters list lists them), or --self for the master of this machine", c.Command.HelpName))
	case len(ids) == 0:
		return "", usageError(fmt.Errorf("which master? %s ID (phoenix masters list lists them)", c.Command.HelpName))
	}
	return ids[0], nil
}

func drainMaster(c *cli.Context, cfg config.Config, store fleet.Store) error {
	id, err := oneMaster(c, &cfg)
	if err != nil {
		return err
	}
	now, err := newAdmin(c, cfg, store).DrainMaster(c.Context, admin.DrainMaster{ID: id, Undo: c.Bool("undo")})
	text := "drains: minions that have an agent leave it if another master is ready (phoenix masters check)"
	if !now.Draining {
		text = "is not draining any more: minions can connect to it again"
	}
	return printMaster(c, now, err, text)
}

func retireMaster(c *cli.Context, cfg config.Config, store fleet.Store) error {
	id, err := oneMaster(c, &cfg)
	if err != nil {
		return err
	}
	now, err := newAdmin(c, cfg, store).RetireMaster(c.Context, admin.RetireMaster{ID: id, Force: c.Bool("force")})
	return printMaster(c, now, err,
		"is retired, which is final for this id: minions leave it, others take its claims over")
}

// printMaster prints what became of a master.
func printMaster(c *cli.Context, now admin.ChangedMaster, err error, text string) error {
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, now)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s  %s\n", plain(now.InstanceID), text)
	return err
}
