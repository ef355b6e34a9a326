package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/member"
	"phoenix/bridge/retry"
)

const (
	// maxWaiting bounds the returns that wait for the master, in bytes.
	maxWaiting = 16 << 20
	// batchReturns, batchBytes bound one request to the master. It keeps one of its
	// workers for some 5 ms a return.
	batchReturns = 100
	batchBytes   = 2 << 20
	// handTries, handPause: a master that restarts is back within some 10 s.
	passTries = 6
	passPause = 2 * time.Second
)

// inbox is what came from other masters and is to be passed to this one.
type inbox struct {
	wake chan struct{}

	mu    sync.Mutex
	queue []message
	bytes int
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

func (in *inbox) put(m message) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	size := m.size()
	if in.bytes+size > maxWaiting {
		return false
	}
	in.queue = append(in.queue, m)
	in.bytes += size
	select {
	case in.wake <- struct{}{}:
	default:
	}
	return true
}

// take returns what goes into one request.
func (in *inbox) take() []message {
	in.mu.Lock()
	defer in.mu.Unlock()
	n, bytes := 0, 0
	for n < len(in.queue) && n < batchReturns && (n == 0 || bytes+in.queue[n].size() <= batchBytes) {
		bytes += in.queue[n].size()
		n++
	}
	batch := in.queue[:n:n]
	in.queue = in.queue[n:]
	in.bytes -= bytes
	return batch
}

// receive takes what a peer answers.
func (r *Relay) receive(from string, m message) {
	switch m.Kind {
	case kindAck:
		switch m.State {
		case statePublished, stateNobody, stateUnknown, stateRefused:
			r.records.ack(m.JID, from, outcome{State: m.State, Why: clip(m.Why), Count: m.Count})
		}
	case kindHave:
		r.offersData(from, m)
	case kindData:
		r.takesData(from, m)
	case kindReturn:
		for name := range notSent {
			delete(m.Values, name)
		}
		if err := checkReturn(m); err != nil {
			r.count(func(c *Counts) { c.Malformed++ })
			if times, yes := r.malformedLog.next(r.o.Now()); yes {
				r.o.Log.Warn("relay: malformed return dropped", "peer", from, "jid", clip(m.JID), "minion", clip(m.ID),
					"err", err, "times", times)
			}
			return
		}
		name, err := msgpack.Marshal(from)
		if err != nil {
			return
		}
		m.Values[mark] = name
		r.count(func(c *Counts) { c.Returns++ })
		r.records.came(m.JID, m.ID, from)
		if !r.inject.put(m) {
			r.count(func(c *Counts) { c.Dropped++ })
		}
	}
}

// passReturns passes returns to the master, those that came meanwhile together.
func (r *Relay) passReturns(ctx context.Context) {
	for {
		batch := r.inject.take()
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-r.inject.wake:
			}
			continue
		}
		r.passBatch(ctx, batch)
		if ctx.Err() != nil {
			return
		}
	}
}

// passBatch passes a batch, and, if the master ended it half-way, each of its returns by
// itself, so that the one at fault is lost alone. Passed twice is as once: the same
// return of the same job.
func (r *Relay) passBatch(ctx context.Context, batch []message) {
	err := r.try(ctx, batch)
	if notTaken(err) && len(batch) > 1 {
		r.o.Log.Debug("relay: returns delivered one by one", "returns", len(batch), "err", err)
		for i := range batch {
			if err = r.try(ctx, batch[i:i+1]); err != nil && !notTaken(err) {
				r.returnsLost(ctx, len(batch)-i, err) // the master is away
				return
			}
			if err != nil {
				r.returnsLost(ctx, 1, err)
			}
		}
		return
	}
	if err != nil {
		r.returnsLost(ctx, len(batch), err)
	}
}

// notTaken: the master has read it, and would say so again.
func notTaken(err error) bool {
	return errors.Is(err, member.ErrNotAll) || errors.Is(err, member.ErrRefused)
}

// try tries for as long as a master that restarts is away.
func (r *Relay) try(ctx context.Context, batch []message) error {
	returns := gather(batch)
	for n := 1; ; n++ {
		err := r.o.Member.Return(ctx, returns)
		if err == nil || ctx.Err() != nil || notTaken(err) || n == passTries {
			return err
		}
		if !retry.Sleep(ctx, passPause) {
			return ctx.Err()
		}
	}
}

func (r *Relay) returnsLost(ctx context.Context, n int, err error) {
	if ctx.Err() != nil {
		return
	}
	r.count(func(c *Counts) { c.Dropped += uint64(n) })
	if times, yes := r.notTakenLog.next(r.o.Now()); yes {
		r.o.Log.Warn("relay: returns of other masters not accepted by the master", "returns", n, "err", err,
			"times", times)
	}
}

// gather puts the returns of each job together. A minion that returned twice keeps
// the last, as in the job cache.
func gather(batch []message) []member.Returns {
	var list []member.Returns
	at := map[string]int{}
	for _, m := range batch {
		i, ok := at[m.JID]
		if !ok {
			i = len(list)
			at[m.JID] = i
			list = append(list, member.Returns{JID: m.JID, Values: map[string]map[string]msgpack.RawMessage{}})
		}
		list[i].Values[m.ID] = m.Values
	}
	return list
}
