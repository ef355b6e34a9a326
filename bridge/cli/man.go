package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"phoenix/bridge/config"
	"phoenix/bridge/doctor"

	"github.com/urfave/cli/v2"
)

func manCommand() *cli.Command {
	return &cli.Command{
		Name:   "man",
		Usage:  "print the manual page, phoenix(8)",
		Hidden: true, // for packages: an admin types "man phoenix"
		Flags: []cli.Flag{&cli.BoolFlag{Name: "markdown", Usage: "print docs/reference.md instead"},
			&cli.StringFlag{Name: "doctor",
				Usage: "print this `FILE`, docs/doctor.md, with its tables of checks generated again"}},
		Action: func(c *cli.Context) error {
			if path := c.String("doctor"); path != "" {
				old, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				text, err := doctor.Document(string(old))
				if err == nil {
					_, err = io.WriteString(c.App.Writer, text)
				}
				return err
			}
			text := manual(c.App)
			if c.Bool("markdown") {
				text = reference(c.App)
			}
			_, err := io.WriteString(c.App.Writer, text)
			return err
		},
	}
}

// manual is the manual page, in the language of man(7).
func manual(app *cli.App) string {
	var b strings.Builder
	b.WriteString(".\\\" made from the code: phoenix man\n.TH PHOENIX 8 \"\" \"phoenix\" \"System Administration\"\n")
	b.WriteString(".nh\n.ad l\n")
	b.WriteString(".SH NAME\nphoenix \\- " + roff(app.Usage) + "\n")
	b.WriteString(".SH SYNOPSIS\n.B phoenix\n\\fICOMMAND\\fR [\\fIflags\\fR]\n")
	b.WriteString(".SH DESCRIPTION\n" + roff(strings.Join(strings.Fields(app.Description), " ")) + "\n")
	b.WriteString(".SH COMMANDS\n")
	for _, t := range leaves(topics(app)) {
		fmt.Fprintf(&b, ".SS phoenix %s\n%s\n", roff(strings.TrimSpace(t.name+" "+t.args)), roff(sentence(t.usage)))
		if t.description != "" {
			fmt.Fprintf(&b, ".PP\n%s\n", roff(t.description))
		}
		for _, f := range t.flags {
			tagged(&b, f.synopsis(), f.text())
		}
		for _, e := range t.examples {
			tagged(&b, e.line, e.meaning)
		}
		for _, g := range t.glossary {
			fmt.Fprintf(&b, ".PP\n%s:\n", roff(g.title))
			for _, w := range g.list {
				tagged(&b, w[0], w[1])
			}
		}
	}
	b.WriteString(".SH CONFIGURATION\n" +
		roff("Each key of the file is a flag of every command, too, and a variable: highstate.lease is "+
			"--highstate-lease and PHOENIX_HIGHSTATE_LEASE. Flags take precedence over variables, and variables over the file.") + "\n")
	c := config.Default()
	for _, s := range c.Settings() {
		usage, def := s.Describe()
		if def != "" {
			usage += " (default: " + def + ")"
		}
		tagged(&b, s.Key, usage)
	}
	b.WriteString(".SH EXIT STATUS\n")
	for _, e := range exitCodes {
		tagged(&b, fmt.Sprint(e.code), e.meaning)
	}
	b.WriteString(".SH FILES\n")
	tagged(&b, config.DefaultPath, "the configuration")
	b.WriteString(".SH SEE ALSO\n.BR salt-key (1),\n.BR salt-run (1)\n")
	return b.String()
}

func tagged(b *strings.Builder, name, meaning string) {
	fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(name), roff(meaning))
}

// roff keeps text from being taken for requests, and its dashes as they are typed.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
