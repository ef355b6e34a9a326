package main

import (
	"context"
	"sync"
	"time"

	"phoenix/bridge/bus"
	"phoenix/bridge/event"
	"phoenix/lab"
)

// events notes when the master said what of which id: a reader of its bus beside
// the bridge's. It implements bus.Handler.
type events struct {
	mu       sync.Mutex
	pending  map[string]time.Time // the first auth request that was left pending
	accepted map[string]time.Time
	changed  chan struct{}
}

const (
	// perKey bounds one key: some 50 ms.
	perKey = 30 * time.Second
	// settled: a connection stands some milliseconds before the master sends on it.
	settled = time.Second
)

// listen reads the master's bus until ctx ends.
func listen(ctx context.Context, s *runner, master *lab.Master) *events {
	e := &events{pending: map[string]time.Time{}, accepted: map[string]time.Time{}, changed: make(chan struct{}, 1)}
	b, err := bus.New(bus.Config{Path: master.EventSocket()})
	s.check(err)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Run(ctx, e) // it ends with ctx
	}()
	s.Cleanup(func() { cancel(); <-done })
	lab.Eventually(s, perKey, "the bench reads the bus of "+master.Name, func() (bool, string) {
		state := b.State()
		return !state.Since.IsZero() && time.Since(state.Since) > settled, "not connected"
	})
	return e
}

// Event implements bus.Handler.
func (e *events) Event(ev event.Event) {
	now := time.Now()
	var at map[string]time.Time
	var id string
	switch ev.Kind {
	case event.KindAuth:
		if a, err := ev.Auth(); err == nil && a.Act == "pend" {
			at, id = e.pending, a.ID
		}
	case event.KindKey:
		if k, err := ev.Key(); err == nil && k.Act == "accept" {
			at, id = e.accepted, k.ID
		}
	}
	if at == nil {
		return
	}
	e.mu.Lock()
	if _, before := at[id]; !before {
		at[id] = now
	}
	e.mu.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// Gap implements bus.Handler. A measurement that lost events runs out of time.
func (e *events) Gap(string) {}

// wait waits until all ids are in at, and gives the time of the last; missing is
// how many are not when the time is over.
func (e *events) wait(at map[string]time.Time, ids []string, within time.Duration) (last time.Time, missing int) {
	over := time.After(within)
	for {
		last, missing = e.last(at, ids)
		if missing == 0 {
			return last, 0
		}
		select {
		case <-e.changed:
		case <-over:
			return last, missing
		}
	}
}

func (e *events) last(at map[string]time.Time, ids []string) (last time.Time, missing int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range ids {
		t, there := at[id]
		if !there {
			missing++
		} else if t.After(last) {
			last = t
		}
	}
	return last, missing
}
