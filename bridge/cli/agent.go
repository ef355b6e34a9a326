package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/agent"
	"phoenix/bridge/awsenv"
	"phoenix/bridge/compose"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/dynamo"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
)

// minionConfig is where an agent finds its minion's configuration, if nothing is
// said: the default of salt_config is a master's.
const minionConfig = "/etc/salt/minion"

func agentCommand() *cli.Command {
	return &cli.Command{
		Name:  "agent",
		Usage: "run beside a Salt minion: keep its list of masters (a service)",
		Description: "Runs as root until it is stopped. It writes 99-phoenix.conf into the minion's minion.d and restarts\n" +
			"the minion when masters join or leave.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "dry-run",
			Usage: "show what would be done now, change nothing, and exit"}},
		Action: runAgent,
	}
}

func runAgent(c *cli.Context) error {
	cfg, err := readConfig(c)
	if err != nil {
		return err
	}
	log, err := newLogger(c, cfg)
	if err != nil {
		return err
	}
	if cfg.SaltConfig == config.Default().SaltConfig {
		cfg.SaltConfig = minionConfig
	}
	minion, err := salt.ReadMinionConfig(cfg.SaltConfig)
	if err != nil {
		return usageError(fmt.Errorf("salt_config: %w", err))
	}
	store, err := openMasters(c.Context, cfg)
	if err != nil {
		return err
	}
	defer store.Close()
	local, err := agent.NewLocal(minion, cfg.Agent.Restart)
	if err != nil {
		return usageError(fmt.Errorf("agent.restart: %w", err))
	}
	file := agent.NewDropIn(minion)
	o := agent.Options{
		Order: agent.Order(cfg.Agent.Order), Follow: agent.FollowOne, Interval: cfg.Agent.Interval,
		Splay: cfg.Agent.Splay, Settle: cfg.Agent.Settle,
		Highstates: []string{"state.highstate", "state.apply", cfg.Highstate.Function},
		Masters:    store, Minion: local, File: file, Log: log,
	}
	if o.MinionID, err = nameOf(minion, cfg); err != nil {
		return err
	}
	if cfg.Agent.Follow != "" {
		if o.Follow, err = agent.ParseFollow(cfg.Agent.Follow); err != nil {
			return usageError(fmt.Errorf("agent.follow: %w", err))
		}
	} else if listed, err := file.Read(); err == nil {
		o.LeaveAlone = leftAlone(minion, listed)
	}
	if writer, ok := store.(agent.ProofWriter); ok {
		if o.Proof, err = agent.NewProof(writer, instanceARN); err != nil {
			return err
		}
	}
	a, err := agent.New(o)
	if err != nil {
		return usageError(err)
	}
	if c.Bool("dry-run") {
		return a.DryRun(c.Context, file.Path(), c.App.Writer)
	}
	for _, fault := range minion.Skipped {
		log.Warn("included file ignored, as Salt ignores it", "err", fault)
	}
	log.Info("agent starts", "version", version, "minion", o.MinionID, "store", cfg.Store, "drop_in", file.Path(),
		"follow", o.Follow, "order", o.Order, "interval", o.Interval, "splay", o.Splay, "settle", o.Settle, "restart",
		cfg.Agent.Restart)
	compose.Attend(c.Context, a.Turned, log)
	if err := a.Run(c.Context); err != nil {
		return err
	}
	log.Info("agent stops")
	return nil
}

// leftAlone says why nothing is to be changed of a minion: it follows several
// masters at once by its own configuration, and nobody said that it is to go on so.
func leftAlone(minion salt.MinionConfig, listed agent.Listed) string {
	masters, hot := agent.HotByHand(minion, listed.Masters)
	if !hot {
		return ""
	}
	return fmt.Sprintf("the minion follows %d masters at once by its own configuration (%s; master_type: str), and agent.follow is not set: "+
		"set it to all (as it is now), to a number, or to 1 (one at a time, with failover)", len(masters),
		strings.Join(masters, ", "))
}

// openMasters opens the store as agents read it: they are many, and a table of
// masters that lags by a second costs half.
func openMasters(ctx context.Context, cfg config.Config) (fleet.Store, error) {
	if !cfg.OnDynamoDB() {
		// An agent that came first would make an empty one, as root.
		if _, err := os.Stat(strings.TrimPrefix(cfg.Store, "sqlite:")); err != nil {
			return nil, markedError{fleet.ErrUnavailable,
				fmt.Errorf("open store %s: %w (store names the one of the masters' bridges; start a bridge first)",
					cfg.Store, cause(err))}
		}
		return open.Store(ctx, cfg, open.Fail, nil)
	}
	tables, err := awsenv.Tables(ctx, cfg)
	if err != nil {
		return nil, err
	}
	tables.LaggingMasters = true
	return dynamo.Open(ctx, tables)
}

// instanceARN is the name under which this instance may write its proof.
func instanceARN(ctx context.Context) (string, error) {
	here, err := awsenv.InstanceIdentity(ctx)
	if err != nil {
		return "", err
	}
	return here.ARN(here.InstanceID), nil
}

// nameOf returns what sets this minion apart from others in the order of masters.
func nameOf(minion salt.MinionConfig, cfg config.Config) (string, error) {
	host, _ := os.Hostname()
	if name := cmp.Or(minion.ID, cfg.InstanceID, host); name != "" {
		return name, nil
	}
	return "", usageError(errors.New("instance_id: is empty, and neither minion nor host has a name"))
}
