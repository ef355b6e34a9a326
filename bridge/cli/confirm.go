package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// errNotConfirmed ends a command that was not confirmed.
var errNotConfirmed = errors.New("nothing was changed")

// confirm asks on the terminal whether to go on, unless --yes is given. Where nobody
// can be asked, --yes is needed.
func confirm(c *cli.Context, question string) error {
	if c.Bool("yes") {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usageError(fmt.Errorf("%s --yes is needed: standard input is not a terminal", question))
	}
	fmt.Fprintf(c.App.ErrWriter, "%s [y/N] ", plain(question))
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read answer: %w", err)
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return errNotConfirmed
	}
	return nil
}
