package service

import (
	"context"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

// The circuit breaker in the simulator: the record that the bridges share, and the
// operator who closes it some time after it opened.

var _ fleet.Breakers = (*line)(nil)

func (l *line) LastBreaker(context.Context) (last fleet.Breaker, err error) {
	err = l.bridge.call("read breaker", true, fleet.ErrUnavailable, func() { last = l.breaker })
	if err != nil {
		return fleet.Breaker{}, err
	}
	l.bridge.reads(last)
	if l.world.ignoresBreaker {
		last.Opened = ""
	}
	return last, nil
}

func (l *line) WriteBreaker(_ context.Context, next fleet.Breaker) (now fleet.Breaker, mine bool, err error) {
	w := l.world
	err = l.bridge.call("write breaker", true, fleet.ErrUnavailable, func() {
		if mine = l.breaker.Version == next.Version-1; !mine {
			w.saw("result of two masters at once")
		} else if l.breaker = next; next.Open() {
			w.log("%s: the breaker opens: %s", l.bridge.incarnation, next.Reason)
			w.saw("breaker opened")
			w.after(w.between(time.Minute, 10*time.Minute), w.resume)
		}
		now = l.breaker
	})
	if err != nil {
		return fleet.Breaker{}, false, err
	}
	l.bridge.reads(now)
	return now, mine, nil
}

// reads notes what a bridge knows of the breaker.
func (b *bridge) reads(record fleet.Breaker) {
	if b.open = 0; record.Open() {
		b.open = record.Version
	}
}

// resume is phoenix highstate resume.
func (w *world) resume() {
	if !w.store.breaker.Open() {
		return
	}
	w.log("the breaker is closed")
	w.saw("breaker resumed")
	w.store.breaker = decide.Resume(w.store.breaker, "root", epoch.Add(w.now))
}

// begins notes a claim that begins an attempt. None does by a bridge that knows that the
// breaker is open. One that does not may have read it a moment before.
func (w *world) begins(b *bridge, before fleet.Minion) {
	if b.open != 0 && b.open == w.store.breaker.Version {
		w.fault("breaker: %s claims %s, and knows that the breaker is open", b.incarnation, before.InstanceID)
	}
}
