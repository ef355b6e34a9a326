package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
)

func completionCommand() *cli.Command {
	shell := func(name, script string) *cli.Command {
		return &cli.Command{Name: name,
			Usage: "print the " + name + " code that completes phoenix's commands, flags and minions",
			Action: func(c *cli.Context) error {
				_, err := fmt.Fprint(c.App.Writer, script)
				return err
			}}
	}
	return &cli.Command{
		Name:  "completion",
		Usage: "completion for shells",
		Description: "In bash: source <(phoenix completion bash), or write its output to /etc/bash_completion.d/phoenix. " +
			"In zsh: write its output to a file _phoenix in a folder of $fpath.",
		Subcommands: []*cli.Command{shell("bash", bashCompletion), shell("zsh", zshCompletion)},
	}
}

// The scripts know nothing of phoenix: they ask it, so that they fit each version.
const bashCompletion = `# bash completion for phoenix
_phoenix() {
	local IFS=$'\n'
	COMPREPLY=($(phoenix complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
	[[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
	return 0
}
complete -o default -F _phoenix phoenix
`

const zshCompletion = `#compdef phoenix
_phoenix() {
	local -a found
	found=("${(@f)$(phoenix complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n $found ]]; then
		compadd -- $found
	else
		_files
	fi
}
if [[ $funcstack[1] == _phoenix ]]; then
	_phoenix "$@"
else
	compdef _phoenix phoenix
fi
`

// completeWithin bounds how long a shell waits for ids.
const completeWithin = time.Second

func completeCommand() *cli.Command {
	return &cli.Command{
		Name: "complete", Hidden: true, ArgsUsage: "WORD…",
		Usage: "print what may stand in the place of the last word (for shells)",
		Action: func(c *cli.Context) error {
			for _, word := range completed(c, c.Args().Slice()) {
				fmt.Fprintln(c.App.Writer, plain(word))
			}
			return nil
		},
	}
}

// completed returns what may stand in the place of the last word.
func completed(c *cli.Context, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	commands := c.App.Commands
	var command *cli.Command
	group := "" // the first command
	flags := slices.Clone(c.App.Flags)
	var out []string
	for i, word := range before {
		if strings.HasPrefix(word, "-") ||
			i > 0 && strings.HasPrefix(before[i-1], "-") && takesValue(spell(before[i-1]), flags) {
			continue
		}
		if found := find(word, commands); found != nil {
			command, commands = found, found.Subcommands
			group = cmp.Or(group, found.Name)
			flags = append(flags, found.Flags...)
		}
	}
	if len(before) > 0 && !strings.Contains(before[len(before)-1], "=") &&
		takesValue(spell(before[len(before)-1]), flags) &&
		strings.HasPrefix(before[len(before)-1], "-") {
		return nil // a value: the shell knows files, and we nothing better
	}
	switch {
	case strings.HasPrefix(last, "-"):
		own := c.App.Flags
		if command != nil {
			own = slices.Concat(command.Flags, c.App.Flags)
		}
		for _, f := range own {
			out = append(out, "--"+f.Names()[0])
		}
		out = append(out, "--help")
	case len(commands) > 0:
		for _, sub := range commands {
			if !sub.Hidden {
				out = append(out, sub.Name)
			}
		}
	case command != nil && strings.HasPrefix(strings.TrimPrefix(command.ArgsUsage, "["), "ID"):
		configure(c, before)
		if group == "masters" {
			out = masterIDs(c)
		} else {
			out = minionIDs(c, command, last)
		}
	}
	out = slices.DeleteFunc(out, func(word string) bool {
		return !strings.HasPrefix(word, last) ||
			slices.Contains(before, word)
	})
	slices.Sort(out)
	return slices.Compact(out)
}

// configure takes the configuration's flags from a line: --config names another
// fleet, and so other minions.
func configure(c *cli.Context, words []string) {
	for i, word := range words {
		name, value, joined := strings.Cut(spell(word), "=")
		if !strings.HasPrefix(word, "-") || !has(c.App.Flags, name) {
			continue
		}
		if !joined && i+1 < len(words) {
			value = words[i+1]
		}
		_ = c.Set(strings.TrimLeft(name, "-"), value) // it is there
	}
}

// masterIDs returns the ids of the masters that are not gone, where a read costs nothing.
func masterIDs(c *cli.Context) (ids []string) {
	cfg, err := readConfig(c)
	if err != nil || cfg.OnDynamoDB() {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.Context, completeWithin)
	defer cancel()
	store, err := open.Store(ctx, cfg, open.Fail, nil)
	if err != nil {
		return nil
	}
	defer store.Close()
	masters, _ := store.Masters(ctx) // one that cannot be read is left out
	for _, m := range masters {
		if m.Status == fleet.Launch {
			ids = append(ids, m.InstanceID)
		}
	}
	return ids
}

// maxCompleted is more than anybody reads.
const maxCompleted = 1000

var errEnough = errors.New("enough")

// minionIDs returns the ids of this master's keys, and of the fleet where a read costs
// nothing. What cannot be read is left out: a shell has no place for errors.
func minionIDs(c *cli.Context, command *cli.Command, prefix string) (ids []string) {
	cfg, err := readConfig(c)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.Context, completeWithin)
	defer cancel()
	if _, keys, _, err := open.Master(cfg); err == nil {
		if list, err := keys.List(); err == nil {
			ids = append(ids, list.Pending...)
			if command.Name == "accept" || command.Name == "delete" { // accept --rebind takes such a key
				ids = append(ids, list.Denied...)
			}
			if command.Name != "accept" { // what is accepted needs no accepting
				ids = append(ids, list.Accepted...)
			}
		}
	}
	if !cfg.OnDynamoDB() && command.Name != "accept" && command.Name != "add" {
		if store, err := open.Store(ctx, cfg, open.Fail, nil); err == nil {
			defer store.Close()
			_ = store.ByStatus(ctx, fleet.Launch, "", func(page []fleet.Minion) error {
				for _, row := range page {
					ids = append(ids, row.SaltID())
				}
				if ctx.Err() != nil {
					return errEnough
				}
				return nil
			})
		}
	}
	valid := cfg.ValidID()
	ids = slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, prefix) || !valid(id) })
	slices.Sort(ids)
	return ids[:min(len(ids), maxCompleted)]
}
