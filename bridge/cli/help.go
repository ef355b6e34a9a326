package cli

import (
	"fmt"
	"regexp"
	"strings"

	"phoenix/bridge/config"

	"github.com/urfave/cli/v2"
)

// What there is to say of the program is said once, by its commands, flags,
// settings and exit codes. Help texts, the manual page, docs/reference.md and the
// shells' completion are made of that.

// topic is the help of one command.
type topic struct {
	name        string // without the program's: "minions add"
	usage       string
	args        string
	description string
	flags       []topicFlag
	examples    []example
	glossary    []terms
	commands    []topic
}

// terms are words and what they mean.
type terms struct {
	title string
	list  [][2]string
}

// topicFlag is the help of one flag.
type topicFlag struct {
	names []string // without dashes, the long one first
	value string   // what stands for its value; empty: it takes none
	usage string
	def   string // its default; empty: none that is worth printing
}

// topicOf returns the help of a command and its subcommands, without hidden ones.
func topicOf(c *cli.Command, above string) topic {
	t := topic{name: strings.TrimSpace(above + " " + c.Name), usage: c.Usage, args: c.ArgsUsage,
		description: strings.Join(strings.Fields(c.Description), " ")}
	t.examples = examples[t.name]
	switch t.name {
	case "minions explain":
		t.glossary = glossary()
	case bridgeName:
		t.glossary = []terms{decisions()}
	}
	for _, f := range c.Flags {
		t.flags = append(t.flags, flagOf(f))
	}
	for _, sub := range c.Subcommands {
		// The library's own help is one command for all, which has itself below it once
		// it has run: a way without end.
		if !sub.Hidden && sub.Name != "help" {
			t.commands = append(t.commands, topicOf(sub, t.name))
		}
	}
	return t
}

// topics are the program's commands, as help shows them.
func topics(app *cli.App) []topic {
	root := topicOf(&cli.Command{Subcommands: app.Commands}, "")
	return root.commands
}

// leaves are the commands that do something.
func leaves(topics []topic) (out []topic) {
	for _, t := range topics {
		if len(t.commands) == 0 {
			out = append(out, t)
		}
		out = append(out, leaves(t.commands)...)
	}
	return out
}

var quoted = regexp.MustCompile("`([^`]+)`")

func flagOf(f cli.Flag) topicFlag {
	t := topicFlag{names: f.Names()}
	switch f := f.(type) {
	case *cli.BoolFlag:
		t.usage = f.Usage
	case *cli.StringFlag:
		t.usage, t.value, t.def = f.Usage, "TEXT", f.Value+f.DefaultText
	case *cli.StringSliceFlag:
		t.usage, t.value = f.Usage, "TEXT"
	case *cli.IntFlag:
		t.usage, t.value = f.Usage, "N"
		if f.Value != 0 {
			t.def = fmt.Sprint(f.Value)
		}
	case *cli.DurationFlag:
		t.usage, t.value = f.Usage, "TIME"
		if f.Value != 0 {
			t.def = config.ShownTime(f.Value)
		}
	default:
		t.usage, t.value = fmt.Sprint(f), "VALUE" // a kind that is not described here yet
	}
	if m := quoted.FindStringSubmatch(t.usage); m != nil && t.value != "" {
		t.value, t.usage = m[1], quoted.ReplaceAllString(t.usage, "$1")
	}
	return t
}

// synopsis is how the flag is written: "-n, --lines N".
func (f topicFlag) synopsis() string {
	words := []string{}
	for i := len(f.names) - 1; i >= 0; i-- {
		words = append(words, dashed(f.names[i]))
	}
	text := strings.Join(words, ", ")
	if f.value != "" {
		text += " " + f.value
	}
	return text
}

// dashed is a flag's name as it is typed.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func (f topicFlag) text() string {
	if f.def == "" {
		return f.usage
	}
	return f.usage + " (default: " + f.def + ")"
}

// helpWidth fits a terminal of the usual width.
const helpWidth = 80

// wrap breaks a text into lines between words, none wider than width if no word is.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// paragraph is a text with a margin.
func paragraph(text string, margin int) string {
	pad := strings.Repeat(" ", margin)
	return pad + strings.Join(wrap(text, helpWidth-margin), "\n"+pad) + "\n"
}

// widestTerm bounds the left column: what is wider has a line of its own.
const widestTerm = 22

// listed is a term and its meaning, side by side.
func listed(term, meaning string) string {
	const margin = 2 + widestTerm + 2
	lines := strings.TrimPrefix(paragraph(meaning, margin), strings.Repeat(" ", margin))
	if len([]rune(term)) > widestTerm {
		return "  " + term + "\n" + strings.Repeat(" ", margin) + lines
	}
	return "  " + term + strings.Repeat(" ", margin-2-len([]rune(term))) + lines
}

// helpOf is the help text of one command.
func helpOf(t topic) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: phoenix %s\n\n", strings.TrimSpace(t.name+" "+t.form()))
	b.WriteString(paragraph(sentence(t.usage), 0))
	if t.description != "" {
		b.WriteString("\n" + paragraph(t.description, 0))
	}
	helpCommands(&b, t.commands, t.name+" ")
	if len(t.flags) > 0 {
		b.WriteString("\nFlags:\n")
		for _, f := range t.flags {
			b.WriteString(listed(f.synopsis(), f.text()))
		}
	}
	if len(t.examples) > 0 {
		b.WriteString("\nExamples:\n")
		for _, e := range t.examples {
			b.WriteString("  " + e.line + "\n" + paragraph(e.meaning, 8))
		}
	}
	for _, g := range t.glossary {
		b.WriteString("\n" + g.title + ":\n")
		for _, w := range g.list {
			b.WriteString(listed(w[0], w[1]))
		}
	}
	b.WriteString("\nThe flags for the configuration are listed in: phoenix --help\n")
	return b.String()
}

// form is what follows the command's name.
func (t topic) form() string {
	if len(t.commands) > 0 {
		return "COMMAND"
	}
	if len(t.flags) > 0 {
		return strings.TrimSpace("[flags] " + t.args)
	}
	return t.args
}

func helpCommands(b *strings.Builder, commands []topic, above string) {
	if len(commands) == 0 {
		return
	}
	b.WriteString("\nCommands:\n")
	for _, c := range commands {
		b.WriteString(listed(strings.TrimPrefix(c.name, above), c.usage))
	}
}

// helpOfAll is the help text of the program.
func helpOfAll(app *cli.App) string {
	var b strings.Builder
	b.WriteString("Usage: phoenix COMMAND [flags]\n\n")
	b.WriteString(paragraph(sentence(app.Usage), 0))
	b.WriteString("\n" + paragraph(app.Description, 0))
	helpCommands(&b, topics(app), "")
	b.WriteString("\n" + paragraph("For details: phoenix COMMAND --help", 0))
	b.WriteString("\nFlags:\n")
	b.WriteString(listed("-c, --config FILE", "configuration FILE (default: "+config.DefaultPath+")"))
	b.WriteString(listed("-h, --help", "show help"))
	b.WriteString(listed("-v, --version", "print the version"))
	b.WriteString("\nConfiguration, before or after a command; in the file and in the environment,\n" +
		"too (--highstate-lease is highstate.lease, and PHOENIX_HIGHSTATE_LEASE):\n")
	c := config.Default()
	for _, s := range c.Settings() {
		usage, def := s.Describe()
		if def != "" {
			usage += " (default: " + def + ")"
		}
		b.WriteString(listed("--"+s.Flag(), usage))
	}
	return b.String()
}

func sentence(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// tellHelp puts the help texts in the place of the library's, which know no width.
func tellHelp(app *cli.App) {
	app.CustomAppHelpTemplate = verbatim(helpOfAll(app))
	tellHelpOf(app.Commands, "")
}

func tellHelpOf(commands []*cli.Command, above string) {
	for _, c := range commands {
		t := topicOf(c, above)
		c.CustomHelpTemplate = verbatim(helpOf(t))
		tellHelpOf(c.Subcommands, t.name)
	}
}

// verbatim keeps the library's templates from reading anything into a text.
func verbatim(text string) string { return "{{`" + strings.ReplaceAll(text, "`", "'") + "`}}" }
