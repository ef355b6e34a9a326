package cli

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/doctor"
)

func printFindings(c *cli.Context, findings []doctor.Finding) error {
	if c.Bool("json") {
		return printJSON(c.App.Writer, findings)
	}
	w := paint(c.App.Writer)
	for _, f := range findings {
		fmt.Fprintf(w, "%-8s %-22s %s\n", f.Severity, f.Check, plain(f.What))
		printIndented(w, f.Why)
		if f.Mend != "" {
			printIndented(w, "fix: "+f.Mend)
		}
	}
	n := doctor.Count(findings)
	_, err := fmt.Fprintf(w, "errors: %d, warnings: %d, notes: %d, ok: %d; nothing was changed\n",
		n[doctor.Error], n[doctor.Warning], n[doctor.Note], n[doctor.OK])
	return err
}

func printIndented(w io.Writer, text string) {
	if text != "" {
		fmt.Fprintf(w, "%-31s %s\n", "", plain(text))
	}
}
