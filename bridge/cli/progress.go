package cli

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// patientFor: nobody wonders about a command sooner.
const patientFor = time.Second

// progress says on the terminal, from the second second on, what a command does,
// and takes it away again when it is done. Nothing may be printed meanwhile.
func progress(c *cli.Context, what string) (done func()) {
	f, ok := c.App.ErrWriter.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return func() {}
	}
	c.App.ErrWriter = clearing{f}
	over := make(chan struct{})
	var printing sync.WaitGroup
	printing.Go(func() {
		begun, printed := time.Now(), false
		tick := time.NewTicker(patientFor)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				printed = true
				fmt.Fprintf(f, "\r%s … %d s%s", what, int(time.Since(begun).Seconds()), clearLine)
			case <-over:
				if printed {
					fmt.Fprint(f, "\r"+clearLine)
				}
				return
			}
		}
	})
	return func() {
		close(over)
		printing.Wait()
		c.App.ErrWriter = f
	}
}

// clearing takes the line of progress away before it writes.
type clearing struct{ f *os.File }

func (w clearing) Write(p []byte) (int, error) {
	if _, err := w.f.WriteString("\r" + clearLine + string(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}
