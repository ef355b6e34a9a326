package relay

import (
	"context"
	"errors"
	"maps"
	"net"
	"sync"
	"time"

	"phoenix/bridge/retry"

	"golang.org/x/sync/errgroup"
)

const (
	// maxShaking bounds the connections that have not shown the masters' key yet, and
	// so what strangers can cost: a signature each.
	maxHandshakes = 16
	// maxShakingOfOne bounds those of one address. What is left of maxShaking to
	// strangers takes nothing from the masters in the table.
	maxHandshakesOfOne = 2
	// maxGuests bounds the connections of masters.
	maxAskers = 64
)

// serve takes connections until ctx ends. It closes the listener.
func (r *Relay) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { r.o.Listener.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := r.o.Listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil { // out of descriptors, or a connection that went already
			retry.Sleep(ctx, 100*time.Millisecond)
			continue
		}
		leave, ok := r.handshakes.begin(sourceOf(conn))
		if !ok {
			conn.Close()
			r.refused(conn, errors.New("too many connections that have not shown a key"))
			continue
		}
		open.Go(func() {
			defer conn.Close()
			l, err := r.admit(ctx, conn)
			leave()
			if err != nil {
				if ctx.Err() == nil {
					r.refused(conn, err)
				}
				return
			}
			r.serveAsker(ctx, conn, l)
		})
	}
}

func (r *Relay) admit(ctx context.Context, conn net.Conn) (*link, error) {
	config, err := tlsConfig(r.o.Pair)
	if err != nil {
		return nil, err
	}
	return handshake(ctx, counted{conn, &r.traffic}, config, true, r.hello(), r.o.Now)
}

// refused logs a connection that was refused; anybody can make many.
func (r *Relay) refused(conn net.Conn, err error) {
	r.count(func(c *Counts) { c.Refused++ })
	if times, yes := r.refusedLog.next(r.o.Now()); yes {
		r.o.Decisions.Warn("relay: connection refused", "from", conn.RemoteAddr().String(), "err", err, "times", times)
	}
}

// asker is another master that asks this one.
type asker struct {
	outbox *outbox
	all    bool   // it wants the returns of all jobs
	link   *link  // nil: it is away
	leave  func() // ends the connection

	indexDue bool      // it is to be offered all data
	indexed  time.Time // when it was offered all data last
}

// serveAsker serves one connection of a master that asks.
func (r *Relay) serveAsker(ctx context.Context, conn net.Conn, l *link) {
	name := l.peer.Instance
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	asker, ok := r.register(l, leave)
	if !ok {
		r.refused(conn, errors.New("too many masters"))
		return
	}
	defer r.unregister(asker, l)
	jobs, wants := make(chan message, maxUnsent), make(chan []string, maxOpen)
	g.Go(func() error { return asker.outbox.drain(ctx, l) })
	for range publishers {
		g.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case m := <-jobs:
					asker.outbox.put(r.publish(ctx, name, l, m))
				}
			}
		})
	}
	if r.share != nil {
		g.Go(func() error { return r.giveData(ctx, wants, l) })
	}
	g.Go(func() error {
		defer leave()
		for {
			m, err := l.read()
			if err != nil {
				return err
			}
			switch m.Kind {
			case kindPing:
				if err := l.send(message{Kind: kindPong}); err != nil {
					return err
				}
			case kindWant:
				r.wants(wants, m.IDs)
			case kindJob:
				select {
				case jobs <- m:
				default:
					asker.outbox.put(message{Kind: kindAck, JID: m.JID, State: stateRefused,
						Why: "too many jobs wait here"})
				}
			}
		}
	})
	err := g.Wait()
	r.o.Log.Debug("relay: the master that published the job has disconnected", "peer", name, "err", err)
}

// register makes the connection that of its master; an earlier one, which the master
// has given up, ends.
func (r *Relay) register(l *link, leave func()) (*asker, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.askers[l.peer.Instance]
	if g == nil {
		if len(r.askers) >= maxAskers { // masters come and go; those that are away make room
			maps.DeleteFunc(r.askers, func(_ string, g *asker) bool { return g.link == nil })
		}
		if len(r.askers) >= maxAskers {
			return nil, false
		}
		g = &asker{outbox: newOutbox(r.o.Now)}
		r.askers[l.peer.Instance] = g
	}
	if g.leave != nil {
		g.leave()
	}
	g.link, g.leave, g.all = l, leave, l.peer.All
	g.outbox.here(true)
	if r.share != nil {
		r.offerData(g, nil)
	}
	if r.peers[l.peer.Instance] == nil { // new: the table may have it by now
		select {
		case r.refresh <- struct{}{}:
		default:
		}
	}
	return g, true
}

func (r *Relay) unregister(g *asker, l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g.link == l {
		g.link, g.leave = nil, nil
		g.outbox.here(false)
	}
}
