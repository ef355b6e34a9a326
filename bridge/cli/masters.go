package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/awsenv"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/retry"
)

func mastersCommand() *cli.Command {
	return &cli.Command{
		Name:  "masters",
		Usage: "the masters of the fleet",
		Subcommands: []*cli.Command{
			{
				Name:   "list",
				Usage:  "show the fleet's masters",
				Flags:  []cli.Flag{jsonFlag},
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
				Flags:  []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "force", Usage: "do it even if no other master is ready and has a moving heartbeat"}},
				Action: withStore(retireMaster),
			},
		},
	}
}

func listMasters(c *cli.Context, cfg config.Config, store fleet.Store) error {
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
	t := newTable(c.App.Writer, "MASTER", "STATUS", "STATE", "ADDRESS", "ZONE", "KEY", "RELAY", "CONNECTED", "HEARTBEAT", "SEEN")
	now, relays := time.Now(), relayStates(c.Context, cfg.Socket)
	for _, m := range masters {
		t.row(m.InstanceID, m.Status, masterState(m, cfg.Highstate.Lease, now), m.IPAddr, m.Zone, short(m.MasterKeySHA256), relayState(m, relays), m.Connected, m.Heartbeat, seenAgo(m, now))
	}
	return cmp.Or(t.flush(), nameBad(c, bad))
}

// masterState says in words how a master stands. Its heartbeat's age is the
// difference of two hosts' clocks: for people only.
func masterState(m fleet.Master, lease time.Duration, now time.Time) string {
	if m.Status == fleet.Terminate {
		return "terminated"
	}
	var words []string
	if admin.Stale(m, lease, now) {
		words = append(words, "STALE, no heartbeat")
	} else if m.Ready {
		words = append(words, "ready")
	} else {
		words = append(words, "NOT READY")
	}
	if m.Draining {
		words = append(words, "draining")
	}
	return strings.Join(words, ", ")
}

// seenAgo is how long ago a master's row was written, as far as clocks agree.
func seenAgo(m fleet.Master, now time.Time) string {
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

// oneMaster gives the id that a command is about.
func oneMaster(c *cli.Context, cfg config.Config) (string, error) {
	ids := c.Args().Slice()
	switch self := c.Bool("self"); {
	case self && len(ids) == 0:
		_, err := awsenv.IdentifyMaster(c.Context, &cfg, "")
		return cfg.InstanceID, err
	case self, len(ids) > 1:
		return "", usageError(errors.New("one master, please: ID or --self"))
	case len(ids) == 0:
		return "", usageError(errors.New("no master's id (phoenix masters list)"))
	}
	return ids[0], nil
}

// changedMaster is what a command made of a master's row.
type changedMaster struct {
	InstanceID string       `json:"instanceid"`
	Status     fleet.Status `json:"status"`
	Draining   bool         `json:"draining"`
}

func drainMaster(c *cli.Context, cfg config.Config, store fleet.Store) error {
	id, err := oneMaster(c, cfg)
	if err != nil {
		return err
	}
	draining := !c.Bool("undo")
	if err := store.DrainMaster(c.Context, id, draining); err != nil {
		return fmt.Errorf("drain master %s: %w", id, err)
	}
	what, say := "master drained", "is drained: minions leave it where another master is ready"
	if !draining {
		what, say = "draining of master ended", "is drained no more: minions may come"
	}
	return masterChanged(c, cfg, changedMaster{id, fleet.Launch, draining}, what, say)
}

func retireMaster(c *cli.Context, cfg config.Config, store fleet.Store) error {
	id, err := oneMaster(c, cfg)
	if err != nil {
		return err
	}
	masters, err := store.Masters(c.Context)
	if _, rest := fleet.WithoutBadRows(err); rest != nil {
		return rest
	}
	switch {
	case !slices.ContainsFunc(masters, func(m fleet.Master) bool { return m.InstanceID == id }):
		return fmt.Errorf("retire master %s: %w", id, fleet.ErrNotFound)
	case !c.Bool("force"):
		if err := anotherServes(c.Context, store, id, masters); err != nil {
			return fmt.Errorf("retire master %s: %w (--force to retire it all the same)", id, err)
		}
	}
	if err := store.RetireMaster(c.Context, id); err != nil {
		return fmt.Errorf("retire master %s: %w", id, err)
	}
	return masterChanged(c, cfg, changedMaster{InstanceID: id, Status: fleet.Terminate}, "master retired", "is retired: minions leave it, others take its claims over")
}

const (
	// beatWithin: a bridge that lives beats every 5 s. One beat may be late.
	beatWithin = 12 * time.Second
	// beatLook: how often it is looked whether one has.
	beatLook = time.Second
)

// anotherServes waits until another master that minions may go to is seen to beat: the
// row of a bridge that died goes on to say ready. An error says why there is none.
func anotherServes(ctx context.Context, store fleet.Store, id string, masters []fleet.Master) error {
	was := map[string]int64{}
	for _, m := range masters {
		if m.InstanceID != id && m.Status == fleet.Launch && m.Ready && !m.Draining {
			was[m.InstanceID] = m.Heartbeat
		}
	}
	if len(was) == 0 {
		return errors.New("no other master is ready")
	}
	for until := time.Now().Add(beatWithin); time.Now().Before(until); {
		if !retry.Sleep(ctx, beatLook) {
			return ctx.Err()
		}
		masters, err := store.Masters(ctx)
		if _, err := fleet.WithoutBadRows(err); err != nil {
			return err
		}
		for _, m := range masters {
			if heartbeat, was := was[m.InstanceID]; was && m.Heartbeat != heartbeat && m.Ready && !m.Draining && m.Status == fleet.Launch {
				return nil
			}
		}
	}
	return fmt.Errorf("no other master is ready: none that says so was seen to beat within %v", beatWithin)
}

func masterChanged(c *cli.Context, cfg config.Config, now changedMaster, what, say string) error {
	newAdmin(c, cfg, nil).Record(what, now.InstanceID)
	if c.Bool("json") {
		return printJSON(c.App.Writer, now)
	}
	_, err := fmt.Fprintf(c.App.Writer, "%s  %s\n", plain(now.InstanceID), say)
	return err
}
