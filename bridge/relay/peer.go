package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"phoenix/bridge/retry"

	"golang.org/x/sync/errgroup"
)

const (
	// maxUnsent bounds the jobs that wait for the writer of one connection: they are
	// written as fast as a socket takes them.
	maxUnsent = 256
	// redialFirst and redialMost bound the waits before a peer is dialled again, of
	// which up to half is taken off at random.
	redialFirst = 400 * time.Millisecond
	redialMost  = 10 * time.Second
	// lastsAfter is how long a connection must have lasted for the next wait to be a
	// short one again.
	lastsAfter = 5 * time.Second
)

// peer is another master, as this one asks it.
type peer struct {
	name    string
	address string
	hello   message
	pair    Pair
	now     func() time.Time
	receive func(from string, m message) // acks and returns
	changed func(p *peer, err error)     // it was reached (nil), or no longer is
	traffic *traffic

	mu    sync.Mutex
	jobs  chan message // of the connection; nil: there is none
	asks  chan message // as jobs, for data
	link  *link
	since time.Time // of the connection, or of its end
	err   error     // why there is none
}

// run keeps a connection until ctx ends.
func (p *peer) run(ctx context.Context) {
	var wait time.Duration
	for ctx.Err() == nil {
		began := p.now()
		err := p.session(ctx)
		if ctx.Err() != nil {
			return
		}
		p.lost(err)
		if p.now().Sub(began) > lastsAfter {
			wait = 0
		}
		wait = retry.Backoff{First: redialFirst, Most: redialMost}.Next(wait)
		retry.Sleep(ctx, retry.Jitter(wait))
	}
}

func (p *peer) lost(err error) {
	p.mu.Lock()
	was := p.link != nil || p.err == nil
	if p.link != nil || p.since.IsZero() {
		p.since = p.now()
	}
	p.jobs, p.asks, p.link, p.err = nil, nil, nil, err
	p.mu.Unlock()
	if was {
		p.changed(p, err)
	}
}

// session is one connection, from dialling to its end.
func (p *peer) session(ctx context.Context) error {
	config, err := tlsConfig(p.pair)
	if err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: dialWithin}
	conn, err := dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			err = op.Err // the address is in the message already
		}
		return err
	}
	defer conn.Close()
	l, err := handshake(ctx, counted{conn, p.traffic}, config, false, p.hello, p.now)
	if err != nil {
		return explain(err)
	}
	if l.peer.Instance != p.name {
		return fmt.Errorf("%s answers there", l.peer.Instance)
	}
	jobs, asks := make(chan message, maxUnsent), make(chan message, 1)
	p.mu.Lock()
	p.jobs, p.asks, p.link, p.since, p.err = jobs, asks, l, p.now(), nil
	p.mu.Unlock()
	p.changed(p, nil)

	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	g.Go(func() error { return p.write(ctx, l, jobs, asks) })
	g.Go(func() error {
		for {
			m, err := l.read()
			if err != nil {
				return err
			}
			p.receive(p.name, m)
		}
	})
	return g.Wait()
}

func (p *peer) write(ctx context.Context, l *link, jobs, asks <-chan message) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-jobs:
			err = l.write(m)
		case m := <-asks:
			err = l.send(m)
		case <-tick.C:
			err = l.ping()
		}
		if err != nil {
			return err
		}
	}
}

// offer sends a job that was read at read, now or not at all, and returns what became of
// that.
func (p *peer) offer(m message, read time.Time) outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == nil {
		t := outcome{State: stateUnreachable, Why: "it was not reached yet"}
		if p.err != nil {
			t.Why = p.err.Error()
		}
		return t
	}
	m.At = p.link.clock.at(read)
	select {
	case p.jobs <- m:
		return outcome{State: stateSent}
	default:
		return outcome{State: stateUnreachable, Why: "it takes no more jobs now"}
	}
}

// ask sends a question for data, and reports whether the writer took it.
func (p *peer) ask(ctx context.Context, m message) bool {
	p.mu.Lock()
	asks := p.asks
	p.mu.Unlock()
	if asks == nil {
		return false
	}
	select {
	case asks <- m:
		return true
	case <-ctx.Done():
	case <-time.After(writeWithin):
	}
	return false
}

// endOldKey ends the connection if it was made with another key.
func (p *peer) endOldKey(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil && p.link.key() != key {
		p.link.conn.NetConn().Close() // without TLS's closing message, which might block
	}
}

// explain says in plain words why no connection came about.
func explain(err error) error {
	var alert tls.AlertError
	if errors.As(err, &alert) {
		return fmt.Errorf("it refuses this bridge's key: %w", err)
	}
	return err
}

// status is for people.
func (p *peer) status() Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Peer{Master: p.name, Address: p.address, Connected: p.link != nil, Since: p.since}
	if p.err != nil {
		s.Error = p.err.Error()
	}
	return s
}
