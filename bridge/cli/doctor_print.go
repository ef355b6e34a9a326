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
	return printSummary(w, c.Bool("quiet"), findings)
}

// printSummary prints how many findings there are of each severity. With --quiet there is
// one such line at most: none where nothing was found, nor where the error with which
// doctor ends has the numbers.
func printSummary(w io.Writer, quiet bool, findings []doctor.Finding) error {
	n := doctor.Count(findings)
	var err error
	switch {
	case !quiet:
		_, err = fmt.Fprintf(w, "errors: %d, warnings: %d, notes: %d, ok: %d; nothing was changed\n",
			n[doctor.Error], n[doctor.Warning], n[doctor.Note], n[doctor.OK])
	case faultOf(findings) == nil && len(findings) > 0:
		_, err = fmt.Fprintf(w, "errors: 0, warnings: 0, notes: %d; nothing was changed\n", n[doctor.Note])
	}
	return err
}

func printIndented(w io.Writer, text string) {
	if text != "" {
		fmt.Fprintf(w, "%-31s %s\n", "", plain(text))
	}
}
