package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"phoenix/bridge/member"
	"phoenix/bridge/retry"
)

const (
	listenFirst = 200 * time.Millisecond
	// listenMost bounds how long after a restart of its master a bridge reads no jobs.
	listenMost = 2 * time.Second
)

// listen reads what the master publishes. Jobs that it publishes while nobody listens
// stay on this master.
func (r *Relay) listen(ctx context.Context) {
	h := &publishHandler{relay: r}
	for ctx.Err() == nil {
		err := r.o.Member.Listen(ctx, h)
		if ctx.Err() != nil {
			return
		}
		r.setListening(false, err)
		h.wait = retry.Backoff{First: listenFirst, Most: listenMost}.Next(h.wait)
		retry.Sleep(ctx, h.wait)
	}
}

// publishHandler takes what the member reads.
type publishHandler struct {
	relay *Relay
	wait  time.Duration // the last one before a connection; 0: there was one since
}

func (h *publishHandler) Connected() {
	h.wait = 0
	h.relay.setListening(true, nil)
}

// Job takes a job, unless it waited for a key until nobody may publish it any more.
func (h *publishHandler) Job(load map[string][]byte, read time.Time) {
	if waited := h.relay.o.Now().Sub(read); waited > lateAfter {
		h.Skipped(fmt.Errorf("it was decrypted %v after it came", waited.Round(time.Millisecond)))
		return
	}
	h.relay.setListening(true, nil)
	h.relay.carry(load, read)
}

// Skipped counts a job that stays here. Only a master that does not sign leaves the
// relay without all of them.
func (h *publishHandler) Skipped(err error) {
	r := h.relay
	r.count(func(c *Counts) { c.Skipped++ })
	r.setListening(!errors.Is(err, member.ErrUnsigned), err)
	if times, yes := r.skippedLog.next(r.o.Now()); yes {
		r.o.Log.Warn("relay: a job stays here", "err", err, "times", times)
	}
}

// setListening notes whether this master's jobs are read, and why not, or why the last one
// was not.
func (r *Relay) setListening(yes bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	same := yes == r.listens && (yes || r.listenErr != nil)
	r.listens, r.listenErr = yes, err
	switch {
	case same:
	case yes:
		r.o.Log.Info("relay: reads what the master publishes")
	default:
		r.o.Log.Warn("relay: does not read what the master publishes; its jobs stay here", "err", err)
	}
}
