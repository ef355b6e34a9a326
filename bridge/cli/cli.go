// Package cli is the command line of phoenix: one file for each command, which reads
// flags and the configuration, calls the packages that do the work, and prints.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
)

// version is what --version prints. Main sets it.
var version = "unknown"

// Main runs the command line of this process until it ends or a signal ends it, and
// returns the exit code.
func Main(build string) int {
	version = build
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args, os.Stdout, os.Stderr)
}

// run is the whole program: arguments in, exit code out. Two of them at once in one process
// race: the flags --help and --version and the command help of urfave/cli (v2.27.7) are
// variables of its package, which each run writes.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	app := newApp(out, errs)
	err := app.RunContext(ctx, arrange(args, app))
	if _, ok := errors.AsType[cli.ExitCoder](err); ok {
		err = noHelp(err, app) // the library's own, of help for what is not there
	}
	if err == nil {
		return exitOK
	}
	if !errors.Is(err, errSilent) {
		fmt.Fprintln(errs, "phoenix: "+describeError(err))
	}
	return exitCode(err)
}

func newApp(out, errs io.Writer) *cli.App {
	app := &cli.App{
		Name:    "phoenix",
		Usage:   "accept keys and run first highstates of Salt minions, even if masters fail",
		Version: version,
		Description: "The bridge runs beside each Salt master. It accepts the keys of the minions that the fleet lists, " +
			"runs the first highstate of each until it succeeds (at most highstate.attempts times), and deletes the keys of terminated minions.",
		Flags:     configFlags(),
		Writer:    out,
		ErrWriter: errs,
		// Errors are printed in one place, with their exit code: see run.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   misused,
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return noCommand(name, c.App.Commands, "phoenix")
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{
			bridgeCommand(), agentCommand(), statusCommand(), minionsCommand(), adoptCommand(),
			mastersCommand(), keysCommand(), highstateCommand(), jobsCommand(), eventsCommand(), rosterCommand(),
			pruneCommand(),
			historyCommand(), identityCommand(), storeCommand(), doctorCommand(), completionCommand(),
			completeCommand(), manCommand(),
		},
	}
	tellHelp(app)
	tellMisuse(app.Commands)
	return app
}
