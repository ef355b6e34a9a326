package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/plural"
)

func highstateShowCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show which states of a minion's last highstate failed, by name",
		ArgsUsage: "ID",
		Description: "Run it on the master that ran the highstate: the return is in that master's job cache, for\n" +
			"keep_jobs_seconds (a day by default). If no first highstate is on record, as after phoenix highstate run, it\n" +
			"shows the last state run of any kind that is known on this master. Exit code 1: states failed. Exit code 7: no\n" +
			"state run is known, or its return is not here.",
		Flags:  []cli.Flag{jsonFlag},
		Action: withStore(performing(showHighstate)),
	}
}

// errStatesFailed ends highstate show with exit code 1.
var errStatesFailed = errors.New("states failed")

func showHighstate(c *cli.Context, a admin.Admin) error {
	if c.NArg() != 1 {
		return usageError(errors.New("one minion id is needed; see " + c.Command.HelpName + " --help"))
	}
	h, err := a.HighstateResult(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(c.App.Writer, h)
	} else {
		by := " by " + plain(h.Master)
		if h.Other != "" {
			by = ", " + plain(h.Other)
		}
		fmt.Fprintf(c.App.Writer, "%s  job %s%s: %s, %d changed, %d failed\n", plain(h.ID), h.JID, by,
			plural.Of(h.States, "state"), h.Changed, len(h.Failed))
		if n := len(h.ChangedStates); n > 0 {
			more := ""
			if n > shownIDs {
				more = fmt.Sprintf(" and %d more", n-shownIDs)
			}
			fmt.Fprintf(c.App.Writer, "changed: %s%s\n", plain(strings.Join(h.ChangedStates[:min(n, shownIDs)], ", ")),
				more)
		}
		if h.Text != "" {
			fmt.Fprintf(c.App.Writer, "%s\n", plain(h.Text))
		}
		if len(h.Failed) > 0 {
			t := newTable(c.App.Writer, "FAILED", "FUNCTION", "SLS", "COMMENT")
			for _, s := range h.Failed {
				comment := s.Comment
				if s.Stderr != "" {
					comment += ": " + s.Stderr
				}
				t.row(s.ID, s.Module, s.SLS, strings.Join(strings.Fields(comment), " "))
			}
			err = t.flush()
		}
		fmt.Fprintf(c.App.Writer, "all of it: salt-run jobs.lookup_jid %s\n", plain(h.JID))
	}
	if err == nil && (len(h.Failed) > 0 || h.States == 0 && h.Text != "") {
		err = fmt.Errorf("highstate of %s: %w (%d)", h.ID, errStatesFailed, len(h.Failed))
	}
	return err
}
