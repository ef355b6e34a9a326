package cli

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

func minionsCommand() *cli.Command {
	return &cli.Command{
		Name:  "minions",
		Usage: "the minions of the fleet",
		Subcommands: []*cli.Command{
			{
				Name:        "list",
				Usage:       "show the fleet's minions, oldest change first",
				ArgsUsage:   "[ID | GLOB…]",
				Description: lastRunHelp,
				Flags: slices.Concat([]cli.Flag{jsonFlag,
					&cli.StringFlag{Name: "status", Usage: "only LAUNCH or only TERMINATE"},
					&cli.StringFlag{Name: "on", Usage: "only minions that answer a test.ping through `MASTER` (see minions where)"}, waitFlag}, listFilter, lastRunFlags),
				Action: withStore(performing(listMinions)),
			},
			whereCommand(),
			{
				Name:      "add",
				Usage:     "add minions to the fleet: their keys are accepted, and their first highstate is run",
				ArgsUsage: "ID… | -",
				Description: "A minion whose key this master has already accepted is adopted: no highstate runs.\n" +
					"With -, ids are read from standard input, one per line.",
				Flags: []cli.Flag{jsonFlag,
					&cli.BoolFlag{Name: "again", Usage: "add an id again that was retired or terminated, for another machine"},
					&cli.StringFlag{Name: "group", Usage: "Auto Scaling group, for information only"}},
				Action: makingStore(performing(addMinions)),
			},
			{
				Name:      "retire",
				Usage:     "record that minions were terminated for good: every master deletes their keys",
				ArgsUsage: "ID… | - | --held",
				Description: "Retire machines that are gone. A minion that still runs is locked out: its key is deleted, and not accepted\n" +
					"again. On a terminal the minions get a test.ping first, and you are asked if one answers; --dry-run says so, too.\n" +
					"phoenix minions add --again ID undoes it.",
				Flags: []cli.Flag{jsonFlag,
					&cli.BoolFlag{Name: "held", Usage: "minions whose terminations wait for an operator, because there were too many within an hour (see phoenix status)"},
					&cli.BoolFlag{Name: "unknown",
						Usage: "also ids that are not in the fleet: if their launch is reported later, it is ignored"},
					&cli.BoolFlag{Name: "dry-run", Usage: "list what would be retired, and change nothing"},
					&cli.BoolFlag{Name: "yes", Aliases: []string{"y"},
						Usage: "do not ask for confirmation if there are more than ten, or, on a terminal, if one is connected"}},
				Action: withStore(performing(retireMinions)),
			},
			{
				Name:        "explain",
				Usage:       "show the state of a minion, the rule that decides about its key, and past decisions",
				ArgsUsage:   "ID",
				Description: "Exit code 7: neither the fleet nor this master knows the id.",
				Flags: []cli.Flag{jsonFlag,
					&cli.BoolFlag{Name: "rules", Usage: "also show the rules that were tried and do not apply"},
					&cli.IntFlag{Name: "lines", Aliases: []string{"n"}, Value: admin.DefaultLines,
						Usage: "show the last `N` decisions of this machine's bridge"}},
				Action: withStore(performing(explainMinion)),
			},
		},
	}
}

func listMinions(c *cli.Context, a admin.Admin) error {
	if err := checkOutcome(c); err != nil {
		return err
	}
	rows, err := a.Minions(c.Context, admin.ListMinions{Status: c.String("status")})
	var unknown error
	if rows != nil {
		var fault error
		if rows, unknown, fault = filterMinions(c, rows); fault != nil {
			return fault
		}
		if master := c.String("on"); master != "" {
			if rows, fault = minionsOn(c, a, rows, master); fault != nil {
				return fault
			}
		}
	}
	switch nobody := len(rows) == 0 && err == nil; {
	case nobody && unknown != nil:
		return unknown
	case nobody && a.Note != nil:
		a.Note("no minion matches")
	}
	return cmp.Or(printMinions(c, a, rows, err), unknown)
}

func printMinions(c *cli.Context, a admin.Admin, rows []fleet.Minion, err error) error {
	if c.Bool("last-run") {
		return listLastRuns(c, a, rows, err)
	}
	clock := newClock(time.Now())
	if !c.Bool("wide") && !c.Bool("json") {
		return printRows(c, rows, err, []string{"MINION", "PHASE", "ATTEMPT", "RETCODE", clock.title("CHANGED")},
			func(r fleet.Minion) []any {
				return []any{r.SaltID(), decide.PhaseOf(r, true, false), r.Attempt, retcode(r), clock.stamp(r.Modified)}
			})
	}
	columns := []string{"MINION", "STATUS", "PHASE", "HIGHSTATE BY", "ATTEMPT", "RETCODE", "KEY",
		clock.title("CHANGED")}
	return printRows(c, rows, err, columns, func(r fleet.Minion) []any {
		return []any{r.SaltID(), r.Status, decide.PhaseOf(r, true, false), ranBy(r), r.Attempt, retcode(r),
			short(r.KeySHA256), clock.stamp(r.Modified)}
	})
}

// ranBy is the master that ran the highstate of a minion.
func ranBy(r fleet.Minion) string {
	if r.HighstateRan {
		return r.HighstateRunner
	}
	return ""
}

func retcode(r fleet.Minion) string {
	if r.Retcode == nil {
		return ""
	}
	return fmt.Sprint(*r.Retcode)
}

// operands returns the ids of a command, from its line or, for "-", from standard
// input.
func operands(c *cli.Context) ([]string, error) {
	ids := c.Args().Slice()
	if len(ids) == 1 && ids[0] == "-" {
		var err error
		if ids, err = readIDs(os.Stdin); err != nil {
			return nil, fmt.Errorf("read ids: %w", err)
		}
	}
	if len(ids) == 0 {
		return nil, usageError(errors.New("no minion id; see " + c.Command.HelpName + " --help"))
	}
	return ids, nil
}

// maxIDs bounds what is read from standard input.
const maxIDs = 1_000_000

func readIDs(r io.Reader) ([]string, error) {
	var ids []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if id := strings.TrimSpace(lines.Text()); id != "" {
			ids = append(ids, id)
		}
		if len(ids) > maxIDs {
			return nil, fmt.Errorf("more than %d ids", maxIDs)
		}
	}
	return ids, lines.Err()
}

func addMinions(c *cli.Context, a admin.Admin) error {
	ids, err := operands(c)
	if err != nil {
		return err
	}
	rows, err := a.Add(c.Context, admin.AddMinions{IDs: ids, Again: c.Bool("again"), Group: c.String("group")})
	removed := map[string]bool{}
	if !c.Bool("json") {
		removed = a.RemovedByHand(c.Context)
	}
	return printChanged(c, rows, err, func(r fleet.Minion) string {
		if r.Adopted() {
			return "adopted: its key was accepted before; no highstate is run"
		}
		switch {
		case removed[r.SaltID()]:
			return fmt.Sprintf("listed, and NOT accepted: its key was deleted on this master by hand (phoenix keys restore %s)", plain(r.SaltID()))
		case r.KeySHA256 != "":
			return "listed: the key that is bound to it is accepted when it comes, and no other (" +
				short(r.KeySHA256) + ")"
		}
		return "listed: its key is accepted once the minion sends it"
	})
}

// printChanged prints the rows that an operation changed: none, if it failed as a
// whole. It returns err, which may have the faults of single rows.
func printChanged(c *cli.Context, rows []fleet.Minion, err error, describe func(fleet.Minion) string) error {
	if rows == nil {
		return err
	}
	if c.Bool("json") {
		return errors.Join(printJSON(c.App.Writer, rows), err)
	}
	for _, row := range rows {
		fmt.Fprintf(c.App.Writer, "%s  %s\n", plain(row.InstanceID), describe(row))
	}
	return err
}
