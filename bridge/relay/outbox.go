package relay

import (
	"context"
	"sync"
	"time"
)

const (
	// maxOutbox bounds what waits for a peer that asked, in bytes: 10,000 returns of
	// test.ping, or 16 of the largest (max_event_size is 1 MiB).
	maxOutbox = 16 << 20
	// keepOutbox: so long what waits is kept for a peer that is away, such as one whose
	// bridge starts again. Whoever asked has gone by then.
	keepOutbox = 10 * time.Minute
)

// outbox is what waits to be sent to one peer. It outlives the connection.
type outbox struct {
	now  func() time.Time
	wake chan struct{}

	mu      sync.Mutex
	queue   []message
	bytes   int
	dropped uint64
	away    time.Time // when the peer went; zero: it is here
}

func newOutbox(now func() time.Time) *outbox {
	return &outbox{now: now, wake: make(chan struct{}, 1)}
}

// put adds a message, and reports whether there was room for it. It never waits.
func (o *outbox) put(m message) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.away.IsZero() && o.now().Sub(o.away) > keepOutbox {
		o.queue, o.bytes = nil, 0
	}
	size := m.size()
	if o.bytes+size > maxOutbox {
		o.dropped++
		return false
	}
	o.queue = append(o.queue, m)
	o.bytes += size
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return true
}

// here reports whether the peer is connected.
func (o *outbox) here(yes bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away = time.Time{}
	if !yes {
		o.away = o.now()
	}
}

func (o *outbox) take() []message {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.queue
	o.queue, o.bytes = nil, 0
	return taken
}

// back puts what was taken and not sent in front again.
func (o *outbox) back(rest []message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range rest {
		o.bytes += m.size()
	}
	o.queue = append(rest, o.queue...)
	select { // whoever drains next may have checked already
	case o.wake <- struct{}{}:
	default:
	}
}

// drain sends what waits, as it comes, until ctx ends or a write fails.
func (o *outbox) drain(ctx context.Context, l *link) error {
	for {
		batch := o.take()
		for i, m := range batch {
			if err := l.send(m); err != nil {
				o.back(batch[i:])
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-o.wake:
		}
	}
}
