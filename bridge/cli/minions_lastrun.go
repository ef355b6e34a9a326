package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/fleet"
	"phoenix/bridge/lastrun"
)

// noRun is the outcome of a minion of which no state run is known.
const noRun = "none"

var lastRunFlags = []cli.Flag{
	&cli.BoolFlag{Name: "last-run",
		Usage: "show the last state run of each minion: function, outcome, age, and failed states"},
	&cli.StringFlag{Name: "outcome",
		Usage: "with --last-run: only minions whose last run has this `OUTCOME`: succeeded, failed, or none (none is known)"},
}

// lastRunHelp is the part of the help of minions list that is about --last-run.
const lastRunHelp = "--last-run shows state runs that were started in any way: by salt, a schedule, salt-call. The bridge of this\n" +
	"machine remembers those whose returns it has read since its start, at no cost to the store. For up to 20 minions, the\n" +
	"job cache of this master is searched for others (keep_jobs_seconds, a day by default). Runs on other masters are\n" +
	"seen there, and here if the relay passes them on. First highstates, which are in the store, are shown for all masters;\n" +
	"if one failed elsewhere (\"ran on\"), phoenix highstate show ID names its failed states on that master.\n" +
	"An accepted minion can send a return in another's name."

func listLastRuns(c *cli.Context, a admin.Admin, rows []fleet.Minion, err error) error {
	outcome := c.String("outcome")
	if outcome != "" && !slices.Contains([]string{lastrun.Succeeded, lastrun.Failed, noRun}, outcome) {
		return usageError(fmt.Errorf("--outcome %s is none of succeeded, failed, none", outcome))
	}
	if rows == nil {
		return err
	}
	if !c.Args().Present() && c.String("status") == "" {
		rows = slices.DeleteFunc(rows, func(r fleet.Minion) bool { return r.Status == fleet.Terminate })
	}
	runs := slices.DeleteFunc(a.LastRuns(c.Context, rows),
		func(r admin.LastRun) bool { return outcome != "" && outcomeOf(r.Run) != outcome })
	now, columns, fit := time.Now(), []string{"MINION", "FUNCTION", "OUTCOME", "AGE"}, clipped
	if c.Bool("wide") {
		columns, fit = append(columns, "JOB"), wrapWhole
	}
	return printFitted(c, runs, err, append(columns, "FAILED"), func(r admin.LastRun) []any {
		cells := []any{r.SaltID(), "", noRun, "", "", ""}
		if r.Run != nil {
			cells = []any{r.SaltID(), r.Run.Function, outcomeOf(r.Run), age(now.Sub(r.Run.At)), r.Run.JID,
				failedStates(r.Run)}
		}
		if !c.Bool("wide") {
			cells = slices.Delete(cells, 4, 5)
		}
		return cells
	}, fit)
}

// clipped is clip as one line.
func clipped(text string, n int) []string { return []string{clip(text, n)} }

// outcomeOf is the outcome of a run in a word.
func outcomeOf(r *lastrun.Run) string {
	if r == nil {
		return noRun
	}
	return r.Outcome
}

// failedStates names the failed states of a run, or what its return says instead.
func failedStates(r *lastrun.Run) string {
	text := r.Text
	if r.Failed > 0 {
		text = fmt.Sprintf("%d: %s", r.Failed, strings.Join(r.Names, ", "))
		if r.Failed > len(r.Names) {
			text += ", …"
		}
	} else if r.Outcome == lastrun.Succeeded {
		text = ""
	}
	if r.Test {
		text = strings.TrimSpace("(test) " + text)
	}
	return text
}

// clip shortens a text to n characters, unless n is 0.
func clip(text string, n int) string {
	if runes := []rune(text); n > 0 && len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}

// age says in a few characters how long ago something was.
func age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// checkOutcome refuses --outcome without --last-run.
func checkOutcome(c *cli.Context) error {
	if c.IsSet("outcome") && !c.Bool("last-run") {
		return usageError(errors.New("--outcome needs --last-run"))
	}
	return nil
}
