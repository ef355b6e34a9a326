package relay

import (
	"sync/atomic"
	"time"
)

const (
	// publishedIn is how long after its event a job is read from the publish port, at
	// most. The master fires salt/job/<jid>/new and publishes within milliseconds.
	publishedIn = lateAfter + time.Second
	// maxSuspects bounds the events that are waited for at a time.
	maxSuspects = 64
)

// suspects counts the announced jobs that were not read from the publish port yet.
type suspects struct{ waiting atomic.Int64 }

// suspect writes a line about an announced job that the master did not publish: an
// accepted minion can fire that event. Nothing follows from it here. A bridge that does
// not read all that its master publishes cannot know.
func (r *Relay) suspect(jid string, minions int) {
	if r.memory.knows(jid) || !r.listening() {
		return
	}
	if r.suspects.waiting.Add(1) > maxSuspects {
		r.suspects.waiting.Add(-1)
		return
	}
	missed := r.skipped()
	time.AfterFunc(publishedIn, func() {
		r.suspects.waiting.Add(-1)
		if r.memory.knows(jid) || !r.listening() || r.skipped() != missed {
			return
		}
		if times, yes := r.forgedLog.next(r.o.Now()); yes {
			r.o.Decisions.Warn("event of a job that the master did not publish: a minion may have forged it", "jid",
				jid,
				"minions", minions, "times", times)
		}
	})
}

func (r *Relay) listening() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.listens
}

func (r *Relay) skipped() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts.Skipped
}
