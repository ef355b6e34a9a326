package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/bus"
	"phoenix/bridge/event"
	"phoenix/bridge/plural"
	"phoenix/bridge/salt"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name:  "events",
		Usage: "show the events of the master's event bus, as salt-run state.event does",
		Description: "Prints the tag and the data of each event until it is stopped. It has its own connection to the bus of\n" +
			"the master on this machine, and needs no bridge. Run it as root or as the master's user. A bridge does\n" +
			"not need this command: it is for people, and for scripts that wait for an event.",
		Flags: []cli.Flag{jsonFlag,
			&cli.StringFlag{Name: "tag", Value: "*",
				Usage: "only tags that match this `GLOB`; as in Salt, * also matches slashes"},
			&cli.IntFlag{Name: "count", Usage: "exit after `N` events"},
			&cli.DurationFlag{Name: "timeout", Usage: "exit after this time; with --count, fail if fewer events came"}},
		Action: showEvents,
	}
}

const (
	// maxHeard and maxHeardBytes bound what is read off the bus and not yet printed.
	// Whoever stalls the bus makes the master's memory grow (3006), or is cut (3007
	// and 3008): so what a slow terminal does not take is left out, and counted.
	maxHeard      = 10_000
	maxHeardBytes = 64 << 20
	// lookEvery: how soon a failed connection is reported.
	lookEvery = 50 * time.Millisecond
)

// heard is an event that is to be printed.
type heard struct {
	tag  string
	data []byte
}

// listener keeps what the bus says until it is printed.
type listener struct {
	match func(tag []byte) bool
	queue chan heard
	bytes atomic.Int64
	lost  atomic.Int64
	gaps  chan string
}

// Event is called by the bus.
func (l *listener) Event(e event.Event) {
	if !l.match(e.Tag) {
		return
	}
	h := heard{string(e.Tag), append([]byte(nil), e.Data...)}
	if l.bytes.Add(h.size()) <= maxHeardBytes {
		select {
		case l.queue <- h:
			return
		default:
		}
	}
	l.bytes.Add(-h.size())
	l.lost.Add(1)
}

func (h heard) size() int64 { return int64(len(h.tag) + len(h.data)) }

// Gap is called by the bus.
func (l *listener) Gap(reason string) {
	select {
	case l.gaps <- reason:
	default: // the one before it is not printed yet
	}
}

func showEvents(c *cli.Context) error {
	cfg, err := readConfig(c)
	if err != nil {
		return err
	}
	if c.Int("count") < 0 || c.Duration("timeout") < 0 {
		return usageError(errors.New("--count and --timeout are not negative"))
	}
	master, err := salt.ReadConfig(cfg.SaltConfig)
	if err != nil {
		return usageError(fmt.Errorf("salt_config: %w", err))
	}
	where := bus.Config{}
	if network, address := master.EventSocket(); network == "unix" {
		where.Path = address
	} else {
		where.Address = address
	}
	events, err := bus.New(where)
	if err != nil {
		return usageError(err)
	}
	ctx, stop := context.WithCancel(c.Context)
	l := &listener{match: event.Glob(c.String("tag")), queue: make(chan heard, maxHeard), gaps: make(chan string, 1)}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = events.Run(ctx, l) // until ctx ends
	}()
	defer func() { stop(); <-over }()
	return l.print(c, events)
}

// print prints events until it has printed enough, or ctx ends.
func (l *listener) print(c *cli.Context, events *bus.Bus) error {
	out := bufio.NewWriter(c.App.Writer)
	defer out.Flush()
	var timeout <-chan time.Time
	if d := c.Duration("timeout"); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		timeout = timer.C
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	connected, printed, n := false, "", 0
	for {
		if len(l.queue) == 0 {
			if err := out.Flush(); err != nil {
				return fmt.Errorf("print events: %w", err)
			}
		}
		select {
		case h := <-l.queue:
			l.bytes.Add(-h.size())
			if err := h.print(out, c.Bool("json")); err != nil {
				l.note(c, "event %q is left out: %v", h.tag, err)
				continue
			}
			if n++; n == c.Int("count") {
				return nil
			}
		case reason := <-l.gaps:
			if connected {
				l.note(c, "events may have been missed: %s", reason)
			}
			connected, printed = true, ""
		case <-look.C:
			if lost := l.lost.Swap(0); lost > 0 {
				l.note(c, "left out: %s, which came faster than they could be printed", plural.Of(lost, "event"))
			}
			state := events.State()
			if !state.Since.IsZero() || state.LastErr == nil || state.LastErr.Error() == printed {
				continue
			}
			if printed = state.LastErr.Error(); !connected {
				return unreachable(state.LastErr)
			}
			l.note(c, "%s; trying again", printed)
		case <-timeout:
			return l.ended(c, n, fmt.Sprintf("within %v", c.Duration("timeout")))
		case <-c.Context.Done():
			return l.ended(c, n, "before it was stopped")
		}
	}
}

func (l *listener) note(c *cli.Context, format string, args ...any) {
	fmt.Fprintln(c.App.ErrWriter, plain("note: "+fmt.Sprintf(format, args...)))
}

// ended: a script that waits for events must not take an end for their coming.
func (l *listener) ended(c *cli.Context, n int, when string) error {
	if want := c.Int("count"); want > 0 {
		return fmt.Errorf("await events: %d of %d came %s", n, want, when)
	}
	return nil
}

// unreachable is why the bus cannot be read, with its exit code and what to do.
func unreachable(err error) error {
	if u, ok := errors.AsType[*bus.UnreachableError](err); ok {
		if u.Hint != "" {
			err = fmt.Errorf("%w (%s)", err, u.Hint)
		}
		if !errors.Is(err, fs.ErrPermission) {
			err = markedError{salt.ErrUnreachable, err}
		}
	}
	return err
}

// print writes an event: for people, its tag and its data below each other; for
// programs, one object a line.
func (h heard) print(w io.Writer, asJSON bool) error {
	data, err := event.Any(h.data)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(struct {
			Tag  string `json:"tag"`
			Data any    `json:"data"`
		}{h.tag, data})
	}
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ") // as Salt does
	if err := enc.Encode(data); err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = plain(lines[i])
	}
	_, err = fmt.Fprintf(w, "%s\t%s\n", plain(h.tag), strings.Join(lines, "\n"))
	return err
}
