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
	type answer struct {
		line string
		err  error
	}
	answered := make(chan answer, 1)
	go func() { // it ends with the process: a read of a terminal cannot be called off
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		answered <- answer{line, err}
	}()
	select {
	case <-c.Context.Done(): // Ctrl-C
		fmt.Fprintln(c.App.ErrWriter)
		return errNotConfirmed
	case a := <-answered:
		if a.err != nil && !errors.Is(a.err, io.EOF) {
			return fmt.Errorf("read answer: %w", a.err)
		}
		if text := strings.ToLower(strings.TrimSpace(a.line)); text != "y" && text != "yes" {
			return errNotConfirmed
		}
		return nil
	}
}
