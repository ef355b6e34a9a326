package decide

import (
	"time"

	"phoenix/bridge/fleet"
)

// Pulse is what the other masters look like from here.
type Pulse int

const (
	Unseen  Pulse = iota // not observed for long enough to say anything
	Beating              // its counter moves
	Stopped              // its counter stood still, or its row said "not ready", for a whole lease of ours
	Retired              // its row says TERMINATE
)

// Pulses watches the heartbeats of masters. One that beats and is not ready is a
// bridge beside a master that does not serve: it can hold no claim either. Only counters are compared, and only
// the observer's own clock is used: how far other hosts' clocks are off does not
// matter.
type Pulses struct {
	seen map[string]pulse
}

// watchGap: a master that nobody looked at for longer was not watched.
const watchGap = time.Minute

type pulse struct {
	counter     int64
	incarnation string
	status      fleet.Status
	since       time.Time // first observation of this counter
	last        time.Time // last observation of it
	first       time.Time // first observation since the last gap between two
	unready     time.Time // first observation of "not ready" since one of "ready"; zero: it is
}

// Observe takes in the masters table. now must be read after the table was: a
// beat that came in while we read must not count against its master.
func (p *Pulses) Observe(masters []fleet.Master, now time.Time) {
	next := make(map[string]pulse, len(masters))
	for _, m := range masters {
		old, known := p.seen[m.InstanceID]
		if !known || old.counter != m.Heartbeat || old.incarnation != m.Incarnation {
			old = pulse{counter: m.Heartbeat, incarnation: m.Incarnation, since: now, unready: old.unready, first: old.first, last: old.last}
		}
		if old.first.IsZero() || now.Sub(old.last) > watchGap {
			old.first, old.unready = now, time.Time{} // in between it may have been ready
		}
		old.last, old.status = now, m.Status
		switch {
		case m.Ready:
			old.unready = time.Time{}
		case old.unready.IsZero():
			old.unready = now
		}
		next[m.InstanceID] = old
	}
	// A master without a row cannot beat: its counter stands still too.
	for id, old := range p.seen {
		if _, there := next[id]; !there {
			if old.incarnation != "" || old.since.IsZero() {
				old = pulse{since: now}
			}
			old.last = now
			next[id] = old
		}
	}
	p.seen = next
}

// Of says how master id looks, for that lease. A master that was never observed
// is watched from now on, so that a claim of one whose row is gone can be taken.
// What was not observed is not held against anybody: while the store does not
// answer us, no counter is seen to stand still.
func (p *Pulses) Of(id string, lease time.Duration) Pulse {
	seen, known := p.seen[id]
	switch {
	case !known:
		if p.seen == nil {
			p.seen = map[string]pulse{}
		}
		p.seen[id] = pulse{}
		return Unseen
	case seen.status == fleet.Terminate:
		return Retired
	case seen.since.IsZero():
		return Unseen
	case seen.last.Sub(seen.since) >= lease, !seen.unready.IsZero() && seen.last.Sub(seen.unready) >= lease:
		return Stopped
	}
	return Beating
}

// Steady says whether master id beats and is ready, and was watched for a lease at
// least: a row that nobody writes any more looks well at first.
func (p *Pulses) Steady(id string, lease time.Duration) bool {
	seen := p.seen[id]
	return p.Of(id, lease) == Beating && seen.unready.IsZero() && !seen.first.IsZero() && seen.last.Sub(seen.first) >= lease
}
