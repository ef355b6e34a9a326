package decide

import (
	"time"

	"phoenix/bridge/fleet"
)

// Liveness is the state of another master, as this one observes it.
type Liveness int

const (
	Unseen  Liveness = iota // not observed for long enough to say anything
	Beating                 // its counter moves
	Stopped                 // its counter did not change, or its row said "not ready", for a whole lease of ours
	Retired                 // its row says TERMINATE
)

// FailureDetector observes the heartbeats of masters. A master that beats and is
// not ready has a bridge and no working salt-master: it loses its claims, too. Only
// counters are compared, and only the observer's own clock is used, so that errors
// of other hosts' clocks do not matter.
type FailureDetector struct {
	seen map[string]observed
}

// watchGap: a master that was not observed for longer was not watched in between.
const watchGap = time.Minute

type observed struct {
	counter     int64
	incarnation string
	status      fleet.Status
	since       time.Time // first observation of this counter
	last        time.Time // last observation of it
	first       time.Time // first observation since the last gap between two
	unready     time.Time // first observation of "not ready" since one of "ready"; zero: it is
}

// Observe records the masters table. now must be read after the table: a beat that
// arrives during the read must not count against its master.
func (p *FailureDetector) Observe(masters []fleet.Master, now time.Time) {
	next := make(map[string]observed, len(masters))
	for _, m := range masters {
		old, known := p.seen[m.InstanceID]
		if !known || old.counter != m.Heartbeat || old.incarnation != m.Incarnation {
			old = observed{counter: m.Heartbeat, incarnation: m.Incarnation, since: now, unready: old.unready,
				first: old.first, last: old.last}
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
	// A master without a row cannot beat: its counter does not change, either.
	for id, old := range p.seen {
		if _, there := next[id]; !there {
			if old.incarnation != "" || old.since.IsZero() {
				old = observed{since: now}
			}
			old.last = now
			next[id] = old
		}
	}
	p.seen = next
}

// Of returns the state of master id for that lease. A master that was never
// observed is watched from now on, so that a claim of one whose row is gone can be
// taken over. While the store does not answer, no counter is observed, and no
// master is considered stopped.
func (p *FailureDetector) Of(id string, lease time.Duration) Liveness {
	seen, known := p.seen[id]
	switch {
	case !known:
		if p.seen == nil {
			p.seen = map[string]observed{}
		}
		p.seen[id] = observed{}
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

// Steady reports whether master id beats and is ready, and was watched for at least
// a lease: a row that nobody writes any more seems alive at first.
func (p *FailureDetector) Steady(id string, lease time.Duration) bool {
	seen := p.seen[id]
	return p.Of(id, lease) == Beating && seen.unready.IsZero() && !seen.first.IsZero() &&
		seen.last.Sub(seen.first) >= lease
}
