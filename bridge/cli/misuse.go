package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/spelling"
)

// tellMisuse makes a misspelt flag or command below another one what it is at the
// top: one line and exit code 2. The library asks each command for itself, and
// else prints its help and goes on as if all were well. So it does with operands
// that a command has no use for.
func tellMisuse(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = misused
		tellMisuse(c.Subcommands)
		switch {
		case len(c.Subcommands) > 0:
			c.Action = func(c *cli.Context) error {
				if name := c.Args().First(); name != "" {
					return noCommand(name, c.Command.Subcommands, c.Command.HelpName)
				}
				return cli.ShowSubcommandHelp(c)
			}
		case c.ArgsUsage == "":
			do := c.Action
			c.Action = func(c *cli.Context) error {
				if c.Args().Present() {
					return usageError(fmt.Errorf("%s takes no operand, and has been given %q; see %s --help",
						c.Command.HelpName, c.Args().First(), c.Command.HelpName))
				}
				return do(c)
			}
		}
	}
}

var (
	unknownFlag = regexp.MustCompile(`^flag provided but not defined: -+(.*)$`)
	wrongValue  = regexp.MustCompile(`^invalid value ("[^"]*") for flag -+([^:]*): .*$`)
	noValue     = regexp.MustCompile(`^flag needs an argument: -+(.*)$`)
)

// misused rewords the usage errors of the library.
func misused(c *cli.Context, err error, _ bool) error {
	help := "phoenix"
	if c.Command != nil && c.Command.HelpName != "" {
		help = c.Command.HelpName
	}
	text := err.Error()
	if m := unknownFlag.FindStringSubmatch(text); m != nil {
		return usageError(fmt.Errorf("no flag %s%s; see %s --help", dashed(m[1]),
			spelling.DidYouMean(nearFlags(c, m[1])), help))
	}
	if m := noValue.FindStringSubmatch(text); m != nil {
		return usageError(fmt.Errorf("flag %s needs a value; see %s --help", dashed(m[1]), help))
	}
	if m := wrongValue.FindStringSubmatch(text); m != nil {
		return usageError(fmt.Errorf("flag %s: %s is not %s", dashed(m[2]), m[1], wanted(c, m[2])))
	}
	return usageError(err)
}

// nearFlags are the flags that were perhaps meant by one that there is not: of the command,
// or of the configuration.
func nearFlags(c *cli.Context, name string) []string {
	name, _, _ = strings.Cut(name, "=")
	flags := c.App.Flags
	if c.Command != nil {
		flags = slices.Concat(c.Command.Flags, flags)
	}
	var known []string
	for _, f := range flags {
		for _, n := range f.Names() {
			if len(n) > 1 {
				known = append(known, n)
			}
		}
	}
	near := spelling.Nearest(name, known)
	for i, n := range near {
		near[i] = dashed(n)
	}
	return near
}

// wanted is what a flag's value must be.
func wanted(c *cli.Context, name string) string {
	for _, ctx := range c.Lineage() {
		if ctx.Command == nil {
			continue
		}
		for _, f := range ctx.Command.Flags {
			if !has([]cli.Flag{f}, name) {
				continue
			}
			switch f.(type) {
			case *cli.DurationFlag:
				return "a duration like 30s"
			case *cli.IntFlag:
				return "a whole number"
			}
		}
	}
	return "what it takes"
}

var noTopic = regexp.MustCompile(`^No help topic for '(.*)'$`)

// noHelp rewords the error of the library about help for a command that there is not.
func noHelp(err error, app *cli.App) error {
	if m := noTopic.FindStringSubmatch(err.Error()); m != nil {
		return noCommand(m[1], app.Commands, "phoenix")
	}
	return usageError(err)
}

// maxListed is how many commands an error has room for.
const maxListed = 10

// noCommand names the command that was perhaps meant: one of these, or else one below them.
func noCommand(name string, commands []*cli.Command, above string) error {
	var here, below []string
	near := func(c *cli.Command) bool { return !c.Hidden && spelling.Near(name, c.Name) }
	for _, c := range commands {
		if near(c) {
			here = append(here, c.Name)
		}
		for _, sub := range c.Subcommands {
			if near(sub) {
				below = append(below, c.Name+" "+sub.Name)
			}
		}
	}
	if len(here) == 0 {
		here = below
	}
	perhaps := spelling.DidYouMean(here)
	if perhaps == "" && len(commands) <= maxListed {
		var all []string
		for _, c := range commands {
			if !c.Hidden && c.Name != "help" {
				all = append(all, c.Name)
			}
		}
		perhaps = " (there are " + strings.Join(all, ", ") + ")"
	}
	return usageError(fmt.Errorf("no command %q%s; see %s --help", name, perhaps, above))
}
