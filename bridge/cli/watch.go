package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/audit"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/retry"
)

const (
	// watchEvery is how often the view is drawn, if nothing is said, and watchLeast
	// how often at most.
	watchEvery = 2 * time.Second
	watchLeast = 500 * time.Millisecond
	// lookWithin bounds one look at store and bridge.
	lookWithin = 10 * time.Second
	// restFor: however long a look takes, it is a fifth of the time at most.
	restFor = 4
	// watchLines is how many of the last decisions are shown at most, once those of one
	// kind are folded into a line, and watchRead how many are read.
	watchLines = 100
	watchRead  = 2000
	// plainLines is how many are shown where the view is no screen.
	plainLines = 12
)

// watchStatus shows the status again and again: on a terminal in place, else one
// below the other.
func watchStatus(c *cli.Context, cfg config.Config, store fleet.Store) error {
	every := c.Duration("interval")
	if every < watchLeast {
		return usageError(fmt.Errorf("--interval %v is less than %v", every, watchLeast))
	}
	s, ok, err := openScreen(c.App.Writer)
	if err != nil {
		return err
	}
	if !ok || c.Bool("json") {
		return repeatStatus(c, cfg, store, every)
	}
	defer s.close()
	errs := c.App.ErrWriter
	c.App.ErrWriter = io.Discard // the view shows faults itself
	defer func() { c.App.ErrWriter = errs }()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	looks, typed := snapshots(c, cfg, store, every, watchLines), s.keys()
	lines := []string{"phoenix status: looking …"}
	var at scroller
	for {
		if err := s.draw(lines, &at); err != nil {
			return fmt.Errorf("draw: %w", err)
		}
		select {
		case lines = <-looks:
		case <-resized:
		case key := <-typed:
			at.press(key)
			if key == 'q' || key == 'Q' || key == ctrlC || key == ctrlD {
				return nil
			}
			if key == ctrlL { // something else wrote on the screen
				if _, err := io.WriteString(s.out, home+clearBelow); err != nil {
					return fmt.Errorf("draw: %w", err)
				}
			}
		case <-c.Context.Done():
			return nil
		}
	}
}

// snapshots sends what is to be shown: now, and then every so often until the command
// ends. A slow store holds up neither keys nor resizing.
func snapshots(c *cli.Context, cfg config.Config, store fleet.Store, every time.Duration,
	decisions int) <-chan []string {
	out := make(chan []string)
	go func() {
		for {
			begun := time.Now()
			text := watched(c, cfg, store, every, decisions)
			select {
			case out <- strings.Split(strings.TrimSuffix(text, "\n"), "\n"):
			case <-c.Context.Done():
				return
			}
			if !rest(c.Context, every, time.Since(begun)) {
				return
			}
		}
	}()
	return out
}

func rest(ctx context.Context, every, took time.Duration) bool {
	return retry.Sleep(ctx, max(every-took, restFor*took))
}

// repeatStatus is for what is no terminal: a log, or a program.
func repeatStatus(c *cli.Context, cfg config.Config, store fleet.Store, every time.Duration) error {
	for {
		begun := time.Now()
		text := ""
		if c.Bool("json") {
			var b bytes.Buffer
			ctx, cancel := context.WithTimeout(c.Context, lookWithin)
			o, err := admin.Admin{Config: cfg, Store: store}.Status(ctx, admin.CountCheaply)
			cancel()
			if c.Context.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			if err := printJSON(&b, o); err != nil {
				return err
			}
			text = b.String()
		} else {
			text = watched(c, cfg, store, every, plainLines) + "\n"
		}
		if _, err := io.WriteString(c.App.Writer, text); err != nil {
			return fmt.Errorf("print status: %w", err)
		}
		if !rest(c.Context, every, time.Since(begun)) {
			return nil
		}
	}
}

// watched is one reading, as text. It contains what fails: that may be better the
// next time.
func watched(c *cli.Context, cfg config.Config, store fleet.Store, every time.Duration, decisions int) string {
	var b bytes.Buffer
	host, _ := os.Hostname()
	keys := ""
	if decisions == watchLines { // on a screen
		keys = "  q: quit, j k: scroll"
	}
	fmt.Fprintf(&b, "phoenix status on %s, %s, every %v%s\n\n", host, admin.TimeOfDay(time.Now()), every, keys)
	ctx, cancel := context.WithTimeout(c.Context, lookWithin)
	defer cancel()
	o, err := admin.Admin{Config: cfg, Store: store}.Status(ctx, admin.CountCheaply)
	if err == nil {
		err = printStatus(&b, cfg, o)
	}
	if err != nil {
		fmt.Fprintf(&b, "%s\n", plain(describeError(err)))
	}
	zone := newClock(time.Now())
	fmt.Fprintf(&b, "\n%s:\n", zone.title("last decisions"))
	lines, err := audit.Last(cfg.Audit.File, "", watchRead)
	switch {
	case err != nil:
		fmt.Fprintf(&b, "  not shown: %s\n", plain(err.Error()))
	case len(lines) == 0:
		fmt.Fprintln(&b, "  none yet")
	}
	shown := fold(lines)
	for i := len(shown) - 1; i >= max(len(shown)-decisions, 0); i-- { // the newest is the last to be cut
		fmt.Fprintf(&b, "  %s\n", shown[i].line(zone))
	}
	return b.String()
}
