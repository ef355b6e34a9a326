package health

import (
	"errors"
	"fmt"
	"time"
)

const (
	// Lost: a master of which nothing proves for so long that it serves, does not.
	// Three requests go out in that time: that one of them meets a worker that is
	// gone (Salt deals them out in turn, and 3006 and 3007 keep dealing to such a
	// one) does not count against the others.
	Lost = 15 * time.Second
	// again is how many requests in a row must be answered before a master that
	// was lost serves again. One of which two workers in three are gone answers
	// each third request: it would come and go.
	again = 3
	// missedMost is by how many the requests that were not answered may outnumber
	// those that were. A master of which most workers are gone loses most of what
	// its minions ask.
	missedMost = 6
)

// Proof is what is known of whether a master serves. Times are of one monotonic
// clock, and are handed in.
type Proof struct {
	answered time.Time // a worker last answered a request
	bus      time.Time // the event bus was last seen connected
	row      int       // requests answered since the last that was not
	missed   int       // requests not answered, less those answered; never below zero
	lost     bool
	fault    error // of the last request that was not answered
	served   bool  // it was proven to serve

	// Whether the master lives, though it may be too slow to serve.
	alive time.Time // a worker last answered a request, however late
	never int       // requests never answered, less those answered; never below zero
	dying bool      // most requests are never answered
}

// Answered takes in that a worker answered.
func (p *Proof) Answered(now time.Time) {
	p.answered = now
	p.row++
	p.missed = max(p.missed-1, 0)
	p.AnsweredLate(now)
}

// AnsweredLate takes in that a worker answered a request that Failed has counted.
func (p *Proof) AnsweredLate(now time.Time) {
	p.never = max(p.never-1, 0)
	p.dying = p.dying && p.never > 0
	if !p.dying {
		p.alive = now
	}
}

// Unanswered takes in that a request will not be answered any more.
func (p *Proof) Unanswered() {
	p.never = min(p.never+1, missedMost)
	p.dying = p.dying || p.never == missedMost
}

// Failed takes in that a request was not answered in time, and why.
func (p *Proof) Failed(err error) {
	p.row, p.fault = 0, err
	p.missed = min(p.missed+1, missedMost)
}

// Bus takes in whether the event bus is connected.
func (p *Proof) Bus(connected bool, now time.Time) {
	if connected {
		p.bus = now
	}
}

// Check decides whether the master is proven to serve; nil says so, an error why
// it is not.
func (p *Proof) Check(now time.Time) error {
	switch {
	case p.answered.IsZero() && p.fault != nil:
		return fmt.Errorf("no worker of the master has answered yet: %w", p.fault)
	case p.answered.IsZero():
		return errors.New("no worker of the master has answered yet")
	case p.bus.IsZero():
		return errors.New("event bus is not connected")
	case now.Sub(p.answered) >= Lost:
		p.lose()
		if p.fault == nil {
			return fmt.Errorf("no worker of the master has answered for %v", Lost)
		}
		return fmt.Errorf("no worker of the master has answered for %v: %w", Lost, p.fault)
	case now.Sub(p.bus) >= Lost:
		p.lose()
		return fmt.Errorf("event bus has not been connected for %v", Lost)
	case p.missed >= missedMost:
		p.lose()
		return fmt.Errorf("most requests to the master are not answered: are some of its workers gone? %w", p.fault)
	case p.lost && p.row < again:
		return fmt.Errorf("the master answers again: %d of %d requests in a row", p.row, again)
	}
	p.lost, p.served = false, true
	return nil
}

func (p *Proof) lose() {
	if !p.lost {
		p.lost, p.row = true, 0
	}
}

// Hurry reports whether the next request may come sooner: the master begins to
// answer again.
func (p *Proof) Hurry() bool { return p.answered.IsZero() || p.lost && p.row > 0 }

// Proven is when both proofs were last there; zero: never.
func (p *Proof) Proven() time.Time {
	if p.bus.Before(p.answered) {
		return p.bus
	}
	return p.answered
}

// Alive is when a worker last answered a request, however late, while most requests
// are answered at all; zero: never. The event bus does not matter.
func (p *Proof) Alive() time.Time { return p.alive }
