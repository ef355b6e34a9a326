// Command phoenix makes Salt highly available: see "phoenix help".
package main

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

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program: arguments in, exit code out.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	app := newApp(out, errs)
	err := app.RunContext(ctx, arrange(args, app))
	if _, ok := errors.AsType[cli.ExitCoder](err); ok {
		err = usageError(err) // the library's own, of "help" for what is not there
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(errs, "phoenix: "+describeError(err))
	return exitCode(err)
}

func newApp(out, errs io.Writer) *cli.App {
	app := &cli.App{
		Name:    "phoenix",
		Usage:   "keys and first highstates of Salt minions, by masters that may die",
		Version: version,
		Description: "The bridge runs beside each Salt master. It accepts the keys of the minions that the fleet lists, " +
			"runs the first highstate of each exactly once, and forgets the keys of those that were terminated.",
		Flags:     configFlags(),
		Writer:    out,
		ErrWriter: errs,
		// Errors are told in one place, with their exit code: see run.
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
			mastersCommand(), keysCommand(), highstateCommand(), jobsCommand(), eventsCommand(), rosterCommand(), pruneCommand(),
			identityCommand(), doctorCommand(), completionCommand(), completeCommand(), manCommand(),
		},
	}
	tellHelp(app)
	tellMisuse(app.Commands)
	return app
}
