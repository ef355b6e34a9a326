package swarm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"phoenix/bridge/retry"
)

// listen reads publishes until the connection is lost, or silent for too long.
func (m *minion) listen(ctx context.Context, ms *master, w *wire) {
	listening, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(listening, func() { _ = w.Close() })
	var heard func()
	if silence := m.s.cfg.Silence; silence > 0 {
		var last atomic.Int64 // since the begin, so that no clock matters
		begun := time.Now()
		heard = func() { last.Store(int64(time.Since(begun))) }
		m.doing.Go(func() {
			for retry.Sleep(listening, silence/3) {
				if time.Since(begun)-time.Duration(last.Load()) > silence || w.ping() != nil {
					stop()
				}
			}
		})
	}
	for {
		payload, err := w.message(heard)
		if err != nil {
			return
		}
		m.s.count(func(c *Counts) { c.Publishes++ })
		m.hear(ctx, ms, payload)
	}
}

// hear reads one publish, and begins the job if it is for this minion.
func (m *minion) hear(ctx context.Context, ms *master, payload []byte) {
	m.mu.Lock()
	c := m.creds
	m.mu.Unlock()
	j, err := ms.jobs.read(c.aes, payload)
	if errors.Is(err, errMAC) { // the master's AES key was rotated
		m.again(ctx, ms, c)
		m.mu.Lock()
		c = m.creds
		m.mu.Unlock()
		j, err = ms.jobs.read(c.aes, payload)
	}
	if err != nil {
		if ctx.Err() == nil {
			m.s.fault(fmt.Errorf("read publish: %w", err))
		}
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.creds.aes == c.aes && j.serial != 0 {
		if j.serial <= m.serial {
			m.s.fault(fmt.Errorf("read publish: serial %d after %d", j.serial, m.serial))
			return
		}
		m.serial = j.serial
	}
	if !j.isFor(m.id) {
		return
	}
	if slices.Contains(m.jids, j.jid) {
		m.s.count(func(c *Counts) { c.DroppedJIDs++ })
		return
	}
	if len(m.jids) == jidQueue {
		m.jids = slices.Delete(m.jids, 0, 1)
	}
	m.jids = append(m.jids, j.jid)
	m.doing.Go(func() { m.do(ctx, j) })
}
