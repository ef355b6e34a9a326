package cli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/config"
	"phoenix/bridge/service"
)

// reference is docs/reference.md.
func reference(app *cli.App) string {
	var b strings.Builder
	b.WriteString("# Reference\n\nMade from the code by `make docs`: each command, key, variable, exit code and metric.\n\n## Commands\n\n")
	b.WriteString("Flags can be anywhere on the line; after `--` all arguments are operands. Each command also takes the flags for the configuration.\n")
	for _, t := range leaves(topics(app)) {
		fmt.Fprintf(&b, "\n### `phoenix %s`\n\n", strings.TrimSpace(t.name+" "+t.args))
		b.WriteString(sentence(t.usage) + "\n")
		if t.description != "" {
			b.WriteString("\n" + t.description + "\n")
		}
		if len(t.flags) > 0 {
			b.WriteString("\n| flag | default | |\n|---|---|---|\n")
		}
		for _, f := range t.flags {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.synopsis(), code(f.def), cell(f.usage))
		}
		if len(t.examples) > 0 {
			b.WriteString("\n```\n")
			for _, e := range t.examples {
				fmt.Fprintf(&b, "%s    # %s\n", e.line, e.meaning)
			}
			b.WriteString("```\n")
		}
		for _, g := range t.glossary {
			fmt.Fprintf(&b, "\n%s:\n\n| | |\n|---|---|\n", g.title)
			for _, w := range g.list {
				fmt.Fprintf(&b, "| `%s` | %s |\n", w[0], cell(w[1]))
			}
		}
	}
	b.WriteString("\n## Configuration\n\n")
	b.WriteString("`/etc/phoenix/phoenix.yaml`, or the file that `--config` (`-c`, `PHOENIX_CONFIG`) names; a dot in a key goes one level\n" +
		"down. Flags take precedence over variables, and variables over the file. A value is YAML in all three; a list of texts may be\n" +
		"words with spaces between them.\n\n")
	b.WriteString("| key | flag | variable | default | |\n|---|---|---|---|---|\n")
	c := config.Default()
	for _, s := range c.Settings() {
		usage, def := s.Describe()
		fmt.Fprintf(&b, "| `%s` | `--%s` | `%s` | %s | %s |\n", s.Key, s.Flag(), s.Variable(), cell(def), cell(usage))
	}
	b.WriteString("\n## Exit codes\n\n| code | |\n|---|---|\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", e.code, cell(e.meaning))
	}
	b.WriteString("\n## Metrics\n\nServed where `http_listen` says ([metrics.md](metrics.md)).\n\n| metric | type | label | |\n|---|---|---|---|\n")
	for _, m := range service.Metrics() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, code(m.Label), cell(m.Help))
	}
	return b.String()
}

// cell keeps a text within its cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}
