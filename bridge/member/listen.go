package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/event"
	"phoenix/bridge/plural"
	"phoenix/bridge/zmtp"
)

const (
	// dialWithin: the master's I/O thread accepts within milliseconds, however busy
	// the master is.
	dialWithin = 5 * time.Second
	// MaxPublish bounds one publish: a list of 100,000 ids has 2 MiB.
	MaxPublish = 16 << 20
)

// Handler takes what the master publishes. One goroutine calls it.
type Handler interface {
	// Connected: what is published from now on will be read.
	Connected()
	// Job takes the load of a job, values undecoded (see event.Fields). read is when
	// it came, before it was decrypted.
	Job(load map[string][]byte, read time.Time)
	// Skipped: a publish was not understood, or is not the master's.
	Skipped(err error)
}

// Listen calls h with each job that the master publishes, until ctx ends or the
// connection is lost, and returns why. Jobs that are published while nobody listens are
// not read.
//
// The TCP connection goes to the master's own port on this host. What comes over it
// must also be signed by the master whose key is on this host: a minion holds the
// key that it is encrypted with, and could take the port while the master is away.
func (m *Member) Listen(ctx context.Context, h Handler) error {
	dialer := net.Dialer{Timeout: dialWithin}
	conn, err := dialer.DialContext(ctx, "tcp", m.config.Publish)
	if err != nil {
		return fmt.Errorf("listen to the master's jobs: %w", err)
	}
	// What comes while keys are asked for has its time, and waits.
	q, pauseWatch := newQueue(), newPauseWatch(time.Now())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return pauseWatch.run(ctx) })
	g.Go(func() error {
		return zmtp.Subscribe(ctx, conn, MaxPublish, func(message []byte) error {
			q.put(message, pauseWatch.earliest(time.Now()))
			return nil
		})
	})
	g.Go(func() error {
		// A master that was started again has new keys, and may have another key pair.
		if _, err := m.renew(ctx, m.current()); err != nil {
			return err
		}
		h.Connected()
		for {
			p, left, err := q.take(ctx)
			if err != nil {
				return err
			}
			if left > 0 {
				h.Skipped(fmt.Errorf("%s came while this bridge was busy", plural.Of(left, "job")))
			}
			if load, err := m.open(ctx, p.message); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				h.Skipped(err)
			} else {
				h.Job(load, p.read)
			}
		}
	})
	return fmt.Errorf("listen to the master's jobs: %w", g.Wait())
}

// open decrypts one publish. The signature is looked at first, so that nobody but the
// master can make this bridge ask for keys. A key that does not fit may be out of date,
// or what was encrypted with the one before was on its way.
func (m *Member) open(ctx context.Context, message []byte) (map[string][]byte, error) {
	outer, err := event.Fields(message)
	if err != nil {
		return nil, err
	}
	has := m.current()
	if err := verify(has.master, outer); err != nil {
		return nil, err
	}
	sealed := event.Bytes(outer["load"])
	plain, err := has.openPublish(sealed)
	if errors.Is(err, errMAC) {
		if has, err = m.renew(ctx, has); err != nil {
			return nil, err
		}
		plain, err = has.openPublish(sealed)
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt a job: %w", err)
	}
	return event.Fields(plain)
}

func (k keys) openPublish(sealed []byte) ([]byte, error) {
	plain, err := k.publish.decrypt(sealed)
	if errors.Is(err, errMAC) && k.former != nil {
		plain, err = k.former.decrypt(sealed)
	}
	return plain, err
}
