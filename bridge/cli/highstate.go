package cli

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

func highstateCommand() *cli.Command {
	return &cli.Command{
		Name:  "highstate",
		Usage: "first highstates",
		Subcommands: []*cli.Command{
			{
				Name:      "list",
				Usage:     "show the highstates that are wanted, running or failed, and why they are not done (--all: also those that are done)",
				ArgsUsage: "[ID | GLOB…]",
				Description: "Minions that are named are shown in any case. Others are left out if they were adopted, since no first\n" +
					"highstate is wanted for them, or are done (--all).",
				Flags: []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "all", Usage: "also show those that are done"},
					wideFlag},
				Action: withStore(performing(listHighstates)),
			},
			highstateShowCommand(),
			highstateResumeCommand(),
			{
				Name:      "run",
				Usage:     "request a highstate: on an adopted minion, or once more",
				ArgsUsage: "ID… | -",
				Flags: []cli.Flag{jsonFlag,
					&cli.BoolFlag{Name: "force", Usage: "also if one is running: its result is not recorded, its job is not stopped on the minion, and the new one waits there until that has ended"},
					&cli.DurationFlag{Name: "wait",
						Usage: "wait this long for it to succeed, or for its last attempt to fail (highstate.attempts)"}},
				Action: withStore(performing(runHighstate)),
			},
		},
	}
}

func listHighstates(c *cli.Context, a admin.Admin) error {
	asked := c.Args().Present() // of these, everything is said
	rows, err := a.Highstates(c.Context, admin.ListHighstates{All: c.Bool("all") || asked, Adopted: asked})
	if rows == nil {
		return err
	}
	rows, unknown := named(c, rows, func(r admin.Highstate) []string { return []string{r.SaltID(), r.InstanceID} })
	if len(rows) == 0 && unknown != nil {
		return unknown
	}
	return cmp.Or(printHighstates(c, rows, err), unknown)
}

func printHighstates(c *cli.Context, rows []admin.Highstate, err error) error {
	if c.Bool("wide") {
		clock := newClock(time.Now())
		columns := []string{"MINION", "PHASE", "ATTEMPT", "JOB", "BY", "RETCODE", clock.title("CHANGED"), "WHY"}
		return printFitted(c, rows, err, columns, func(r admin.Highstate) []any {
			return []any{r.SaltID(), decide.PhaseOf(r.Minion, true, false), r.Attempt, r.ClaimJID, r.ClaimOwner,
				retcode(r.Minion), clock.stamp(r.Modified), r.Why}
		}, wrapWhole)
	}
	return printFitted(c, rows, err, []string{"MINION", "PHASE", "ATTEMPT", "WHY"}, func(r admin.Highstate) []any {
		return []any{r.SaltID(), decide.PhaseOf(r.Minion, true, false), r.Attempt, r.Why}
	}, wrapWhole)
}

// attemptOf says how far a highstate is, and which of its attempts that is.
func attemptOf(row fleet.Minion, attempts int) string {
	phase := decide.PhaseOf(row, true, false)
	switch {
	case phase == decide.PhaseRunning && row.Attempt > 1:
		return fmt.Sprintf("%s (attempt %d of %d)", phase, row.Attempt, attempts)
	case phase == decide.PhaseFailed:
		text := fmt.Sprintf("%s (attempt %d of %d, retcode %s)", phase, row.Attempt, attempts,
			cmp.Or(retcode(row), "not known"))
		if row.Attempt < attempts {
			text += ": it is tried again"
		}
		return text
	}
	return string(phase)
}

func runHighstate(c *cli.Context, a admin.Admin) error {
	ids, err := operands(c)
	if err != nil {
		return err
	}
	rows, err := a.RunHighstate(c.Context, admin.RunHighstates{IDs: ids, Force: c.Bool("force")})
	err = printChanged(c, rows, err, func(fleet.Minion) string {
		return "requested: the highstate starts once the minion is connected to a master"
	})
	if len(rows) == 0 || c.Duration("wait") == 0 {
		return err
	}
	ids = ids[:0] // the others are named in err
	for _, row := range rows {
		ids = append(ids, row.SaltID())
	}
	changed := func(id string, row fleet.Minion) {
		fmt.Fprintf(c.App.Writer, "%s  %s\n", plain(id), attemptOf(row, a.Config.Highstate.Attempts))
	}
	if c.Bool("json") {
		changed = nil
	}
	return errors.Join(err, a.AwaitHighstates(c.Context, ids, c.Duration("wait"), changed))
}
