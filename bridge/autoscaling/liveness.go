package autoscaling

import (
	"sync"
	"time"

	"phoenix/bridge/fleet"
)

const (
	// beatWithin: a bridge that runs beats every 5 s. One beat may be late.
	beatWithin = 12 * time.Second
	// beatFor: a master that was seen to beat counts as alive for that long.
	beatFor = time.Minute
)

// livenessWatch distinguishes masters that are alive from rows that nobody writes any more,
// which still say ready. It compares counters, by our own clock.
type livenessWatch struct {
	mu   sync.Mutex
	seen map[string]sighting
}

type sighting struct {
	heartbeat int64
	at        time.Time // when it was last read
	moved     time.Time // when it was last seen to have moved; zero: never
}

// observe takes in masters as they were read just now.
func (p *livenessWatch) observe(masters map[string]fleet.Master, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := make(map[string]sighting, len(masters))
	for id, m := range masters {
		s, known := p.seen[id]
		if known && s.heartbeat != m.Heartbeat && now.Sub(s.at) < beatFor {
			s.moved = now
		}
		next[id] = sighting{m.Heartbeat, now, s.moved}
	}
	p.seen = next
}

// last reports whether a master serves, was seen to beat lately, and no other is there that
// minions may go to.
func (p *livenessWatch) last(masters map[string]fleet.Master, id string, now time.Time) bool {
	m := masters[id]
	if m.Status != fleet.Launch || !m.Ready || p.another(masters, id, now) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seen[id]
	return !s.moved.IsZero() && now.Sub(s.moved) < beatFor
}

// another reports whether there is another master that minions may go to, and that was
// seen to beat lately.
func (p *livenessWatch) another(masters map[string]fleet.Master, id string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for other, m := range masters {
		if s := p.seen[other]; mayGoTo(m, id) && !s.moved.IsZero() && now.Sub(s.moved) < beatFor {
			return true
		}
	}
	return false
}

// queued reports whether first highstates wait for a slot of a master that serves and was
// seen to beat lately.
func (p *livenessWatch) queued(masters map[string]fleet.Master, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, m := range masters {
		if s := p.seen[id]; m.Ready && m.Queued > 0 && !s.moved.IsZero() && now.Sub(s.moved) < beatFor {
			return true
		}
	}
	return false
}

// anotherReady reports whether there is another master whose row says that minions may go
// to it.
func anotherReady(masters map[string]fleet.Master, id string) bool {
	for _, m := range masters {
		if mayGoTo(m, id) {
			return true
		}
	}
	return false
}

func mayGoTo(m fleet.Master, from string) bool {
	return m.InstanceID != from && m.Status == fleet.Launch && m.Ready && !m.Draining
}
