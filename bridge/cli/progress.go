package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// patientFor: nobody wonders about a command sooner.
const patientFor = time.Second

// linesEvery is how often a command that takes long says so where there is no terminal: in
// a log, each line stays.
const linesEvery = 10 * time.Second

// progress says on the terminal, from the second second on, what a command does,
// and takes it away again when it is done. Nothing may be printed meanwhile. Elsewhere it
// prints a line to standard error every ten seconds.
func progress(c *cli.Context, what string) (done func()) {
	f, ok := c.App.ErrWriter.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		w, done := progressLines(c.App.ErrWriter, what)
		was := c.App.ErrWriter
		c.App.ErrWriter = w
		return func() {
			done()
			c.App.ErrWriter = was
		}
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

// progressLines is progress where there is no terminal. Others write to the writer that it
// returns meanwhile.
func progressLines(to io.Writer, what string) (w io.Writer, done func()) {
	w = &serial{w: to}
	over := make(chan struct{})
	var printing sync.WaitGroup
	printing.Go(func() {
		begun := time.Now()
		tick := time.NewTicker(linesEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(w, "%s … %d s\n", plain(what), int(time.Since(begun).Seconds()))
			case <-over:
				return
			}
		}
	})
	return w, func() {
		close(over)
		printing.Wait()
	}
}

// serial is a writer for several goroutines.
type serial struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *serial) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// clearing takes the line of progress away before it writes.
type clearing struct{ f *os.File }

func (w clearing) Write(p []byte) (int, error) {
	if _, err := w.f.WriteString("\r" + clearLine + string(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}
