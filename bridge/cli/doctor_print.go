package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/doctor"
)

func printFindings(c *cli.Context, findings []doctor.Finding) error {
	if c.Bool("json") {
		return printJSON(c.App.Writer, findings)
	}
	w := paint(c.App.Writer)
	if width := terminalWidth(c.App.Writer); width > 0 {
		for _, f := range findings {
			fmt.Fprintf(w, "%-8s", f.Severity)
			fmt.Fprintln(c.App.Writer, findingText(f, width))
		}
		return printSummary(c.App.Writer, c.Bool("quiet"), findings)
	}
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

// wideScreen is how wide a terminal must be for the margin that a file has.
const wideScreen = 120

// findingText is a finding for a terminal, after its severity: lines are wrapped, and each command
// of a fix has a line of its own.
func findingText(f doctor.Finding, width int) string {
	margin := 9
	if width >= wideScreen {
		margin = 32
	}
	within := max(width-margin, leastColumn)
	check := fmt.Sprintf(" %-22s ", f.Check)
	lines := breakLines(plain(f.What), max(width-8-len(check), leastColumn), within)
	lines[0] = check + lines[0]
	if f.Why != "" {
		lines = append(lines, wrapWhole(plain(f.Why), within)...)
	}
	return strings.Join(append(lines, fixLines(f, within)...), "\n"+strings.Repeat(" ", margin))
}

// fixLines is a fix in lines. What is not a command is a comment beside commands.
func fixLines(f doctor.Finding, width int) (lines []string) {
	words := plain(strings.TrimPrefix(f.Mend, strings.Join(f.Commands, "; ")))
	switch {
	case f.Mend == "":
		return nil
	case len(f.Commands) == 0:
		return wrapWhole("fix: "+words, width)
	case len(f.Commands) == 1:
		lines = []string{"fix: " + plain(f.Commands[0])}
	default:
		lines = []string{"fix:"}
		for _, command := range f.Commands {
			lines = append(lines, "  "+plain(command))
		}
	}
	if words = strings.TrimPrefix(words, " # "); words != "" {
		for _, line := range wrapWhole(words, width-4) {
			lines = append(lines, "  # "+line)
		}
	}
	return lines
}

func printIndented(w io.Writer, text string) {
	if text != "" {
		fmt.Fprintf(w, "%-31s %s\n", "", plain(text))
	}
}
