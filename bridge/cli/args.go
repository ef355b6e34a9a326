package cli

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange lets flags stand anywhere: the library wants those of the program
// before the command and those of the command before its operands. It also takes
// --highstate.lease and --salt_config for the flags that are named after the
// configuration's keys.
func arrange(args []string, app *cli.App) []string {
	if len(args) == 0 {
		return args
	}
	global := []string{args[0]}
	var rest, operands []string
	commands, local := app.Commands, []cli.Flag{}
	for i := 1; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			operands = append(operands, args[i+1:]...)
			i = len(args)
		case len(arg) > 1 && arg[0] == '-':
			name, value, joined := strings.Cut(spell(arg), "=")
			flags, to := local, &rest
			if has(app.Flags, name) {
				flags, to = app.Flags, &global
			}
			switch {
			case joined:
				*to = append(*to, name+"="+value)
			case takesValue(name, flags) && i+1 < len(args):
				i++
				*to = append(*to, name, args[i])
			case takesValue(name, flags) && to == &global:
				return []string{args[0], name} // last, so that nothing else becomes its value
			case takesValue(name, flags):
				return append(append(global, rest...), name)
			default:
				*to = append(*to, name)
			}
		default:
			if c := find(arg, commands); c != nil && len(operands) == 0 {
				rest = append(rest, arg)
				commands, local = c.Subcommands, append(local, c.Flags...)
				continue
			}
			operands = append(operands, arg)
		}
	}
	out := append(global, rest...)
	if len(operands) > 0 && len(commands) == 0 {
		out = append(out, "--") // what follows is data, even if it looks like a flag
	}
	return append(out, operands...)
}

// spell returns a long flag's name as the library knows it.
func spell(arg string) string {
	if !strings.HasPrefix(arg, "--") {
		return arg
	}
	name, value, joined := strings.Cut(arg[2:], "=")
	name = "--" + strings.NewReplacer(".", "-", "_", "-").Replace(name)
	if joined {
		return name + "=" + value
	}
	return name
}

func has(flags []cli.Flag, name string) bool {
	name = strings.TrimLeft(name, "-")
	return slices.ContainsFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
}

func takesValue(name string, flags []cli.Flag) bool {
	name = strings.TrimLeft(name, "-")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}

func find(name string, commands []*cli.Command) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}
