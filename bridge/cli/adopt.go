package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
)

func adoptCommand() *cli.Command {
	return &cli.Command{
		Name:  "adopt",
		Usage: "add the minions that this master has already accepted to the fleet; runs nothing on them",
		Description: "Each accepted key without a row becomes an adopted minion: its key is bound and stored, so that new\n" +
			"masters know it. No highstate runs and no key changes. Ids that do not match id_pattern are skipped.",
		Flags: []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "dry-run",
			Usage: "show what would be adopted, and change nothing"}},
		Action: makingStore(performing(adopt)),
	}
}

func adopt(c *cli.Context, a admin.Admin) error {
	report, err := a.Adopt(c.Context, admin.AdoptMinions{DryRun: c.Bool("dry-run")})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, report)
	}
	counts := map[string]int{}
	t := newTable(c.App.Writer, "MINION", "OUTCOME", "REASON")
	for _, adoption := range report {
		counts[adoption.Outcome]++
		t.row(adoption.ID, adoption.Outcome, adoption.Reason)
	}
	if t.rows > 0 {
		if err := t.flush(); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(c.App.Writer,
		"adopted %d, would be adopted %d, known %d, passed over %d; highstates run 0, keys deleted 0\n",
		counts[admin.Adopted], counts[admin.WouldAdopt], counts[admin.AlreadyKnown], counts[admin.PassedOver])
	return err
}
