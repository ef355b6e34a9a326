// Package bus reads the event bus of a Salt master, and keeps at it: it finds
// out which framing the master has, comes back when the connection is lost, and
// says when it may have missed something.
//
// It never writes to a master. Nor does it queue: events are handed over one by
// one as they come, so a slow [Handler] stalls the master (3007 and 3008 cut a
// reader that stalls for 60 s, 3006 buffers for it without bound). Events that
// a cut has cost are what Gap is for.
package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"phoenix/bridge/event"
	"phoenix/bridge/retry"
	"phoenix/bridge/zmtp"
)

// DefaultMaxEvent is 16 times Salt's max_event_size. That is no hard bound:
// Salt replaces large values in an event until it fits, but keeps its keys, and
// an admin may have raised it.
const DefaultMaxEvent = 16 << 20

// Handler takes what the bus says. Its methods are called from one goroutine,
// and shall return soon.
type Handler interface {
	// Event takes an event. Its slices are valid only during the call.
	Event(event.Event)

	// Gap says that events may have been missed, and why: at every connection,
	// the first included. What they would have said is to be looked up.
	Gap(reason string)
}

// Config says where the bus is: Path or Address.
type Config struct {
	Path     string // <sock_dir>/master_event_pub.ipc
	Address  string // host:port (tcp_master_pub_port), where ipc_mode is tcp
	MaxEvent int    // bytes of one event; 0: DefaultMaxEvent
	Logger   *slog.Logger
}

// Validate returns all that is wrong with the configuration.
func (c Config) Validate() error {
	var faults []error
	if (c.Path == "") == (c.Address == "") {
		faults = append(faults, errors.New("configure event bus: either path or address is needed"))
	}
	if c.Address != "" {
		if _, _, err := net.SplitHostPort(c.Address); err != nil {
			faults = append(faults, fmt.Errorf("configure event bus: %w", err))
		}
	}
	if c.MaxEvent < 0 {
		faults = append(faults, fmt.Errorf("configure event bus: limit of %d bytes", c.MaxEvent))
	}
	return errors.Join(faults...)
}

// State is how the bus is doing.
type State struct {
	Since     time.Time // connected since then; zero: not connected
	Framing   Framing   // Unknown until a master has said something
	Events    uint64    // since Run began
	Malformed uint64    // events that could not be read, and were left out
	Gaps      uint64    // calls of Gap
	LastErr   error     // why there is no connection, or the last one ended; nil: there was none such
}

// Bus reads the event bus of one master.
type Bus struct {
	config Config
	where  string

	events, malformed atomic.Uint64

	mu    sync.Mutex
	state State // without events and malformed
}

// New checks the configuration. Nothing is opened before Run.
func New(c Config) (*Bus, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.MaxEvent == 0 {
		c.MaxEvent = DefaultMaxEvent
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Bus{config: c, where: c.Path + c.Address}, nil
}

// State may be called at any time, from any goroutine.
func (b *Bus) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.state
	s.Events, s.Malformed = b.events.Load(), b.malformed.Load()
	return s
}

// Connected reports whether the bus is connected now.
func (b *Bus) Connected() bool { return !b.State().Since.IsZero() }

// Run reads the bus until ctx ends, and returns ctx's error. It is called once.
func (b *Bus) Run(ctx context.Context, h Handler) error {
	var wait time.Duration
	for {
		began := time.Now()
		err := b.session(ctx, h)
		if ctx.Err() != nil {
			b.disconnected(nil)
			return ctx.Err()
		}
		if time.Since(began) >= stableAfter {
			wait = 0
		}
		b.disconnected(err)
		most := droppedPause
		if unreachable := (*UnreachableError)(nil); errors.As(err, &unreachable) {
			most = absentPause
		}
		wait = retry.Backoff{First: firstPause, Most: most}.Next(wait)
		retry.Sleep(ctx, retry.Jitter(wait))
	}
}

// session is one connection, from dialling to its end.
func (b *Bus) session(ctx context.Context, h Handler) error {
	// Before dialling: were the file replaced in between, this connection would
	// only be given up for no reason.
	file, _ := os.Stat(b.config.Path)
	conn, err := b.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go b.watch(ctx, giveUp, file)

	h.Gap(b.connected())
	err = b.read(ctx, conn, h)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err == io.EOF {
		err = errors.New("the master closed the connection")
	}
	return fmt.Errorf("read event bus %s: %w", b.where, err)
}

// read hands over what comes until the connection ends.
func (b *Bus) read(ctx context.Context, conn net.Conn, h Handler) error {
	s := newStream(conn, b.config.MaxEvent)
	framing, err := s.begin()
	if err != nil {
		return err
	}
	b.detected(framing)
	if framing == ZMTP {
		greeting := &replay{Conn: conn, seen: s.buf[s.start:s.end]}
		return zmtp.Subscribe(ctx, greeting, b.config.MaxEvent, func(body []byte) error {
			e, err := event.SplitBody(body)
			b.deliver(h, e, err)
			return nil
		})
	}
	for {
		frame, err := s.next()
		if err != nil {
			return err
		}
		e, err := event.Split(frame)
		b.deliver(h, e, err)
	}
}

// deliver hands over an event that could be split. One that could not is left
// out: where it ends is known all the same.
func (b *Bus) deliver(h Handler, e event.Event, err error) {
	if err != nil {
		if b.malformed.Add(1) == 1 { // a master that sends one sends more
			b.config.Logger.Warn("event dropped", "socket", b.where, "err", err)
		}
		return
	}
	b.events.Add(1)
	h.Event(e)
}

// replay returns what was already read from a connection once more.
type replay struct {
	net.Conn
	seen []byte
}

func (r *replay) Read(p []byte) (int, error) {
	if len(r.seen) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.seen)
	r.seen = r.seen[n:]
	return n, nil
}
