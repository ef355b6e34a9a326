package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
)

func highstateResumeCommand() *cli.Command {
	return &cli.Command{
		Name:  "resume",
		Usage: "close the circuit breaker: first highstates begin again, on all masters",
		Description: "The circuit breaker opens when the first highstates of too many minions failed (highstate.breaker); status\n" +
			"shows which. Repair the states, try them on one minion (phoenix highstate run ID, which it does not stop),\n" +
			"then resume. Minions that waited get their first highstate, and those that have attempts left the next one.",
		Flags:  []cli.Flag{jsonFlag},
		Action: withStore(performing(resumeHighstates)),
	}
}

func resumeHighstates(c *cli.Context, a admin.Admin) error {
	r, err := a.ResumeHighstates(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, r)
	}
	say := "the circuit breaker is closed: first highstates begin again within seconds"
	if !r.WasOpen {
		say = "the circuit breaker is not open: nothing is changed"
	}
	_, err = fmt.Fprintln(c.App.Writer, say)
	return err
}
