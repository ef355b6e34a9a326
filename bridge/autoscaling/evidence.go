package autoscaling

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"phoenix/bridge/fleet"
)

// words are what AWS itself says of instances that messages speak of.
type words struct {
	instances map[string]Instance // EC2's
	states    map[string]string   // AutoScaling's, of those that a hook is said to hold
}

// believed is what follows from a message of a termination and from AWS's own answer.
type believed string

const (
	ends    believed = "ends"    // EC2, or AutoScaling for one that a hook holds, say so too
	drains  believed = "drains"  // a master that AutoScaling terminates: minions leave it first
	lives   believed = "lives"   // EC2 says that it runs, or is stopped
	unheard believed = "unheard" // EC2 does not know it, and the fleet has it
	nobody  believed = "nobody"  // EC2 does not know it, nor has the fleet it
)

// believe decides about a message of a termination that needs confirmation.
// listed reports whether a row of the instance says LAUNCH.
func (w words) believe(m Message, role Role, listed bool) believed {
	i, known := w.instances[m.InstanceID]
	switch {
	case known && i.Gone():
		return ends
	case m.Hook != "" && strings.Contains(w.states[m.InstanceID], "Terminating"):
		// A hook's message comes while the instance runs: it is AutoScaling that knows.
		if role == Masters {
			return drains
		}
		return ends
	case known:
		return lives
	case listed:
		return unheard
	}
	return nobody
}

const (
	// answerWithin bounds the question to AWS: meanwhile no message is read.
	answerWithin = 10 * time.Second
	// maxHeld bounds the terminations that are remembered for reports.
	maxHeld = 10_000
	// heldFor: a message that waits is received again each minute. One that was not for
	// so long is in the dead-letter queue, or another master received it.
	heldFor = 10 * time.Minute
)

// errAway: AWS did not answer a moment ago, and is not asked for some time.
var errAway = errors.New("AWS did not answer a moment ago")

// patience keeps a question from being asked again and again while nobody answers.
type patience struct {
	mu       sync.Mutex
	failures int
	until    time.Time
}

func (p *patience) spent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.until)
}

// note says how a question went, and whether it is the first to fail.
func (p *patience) note(err error) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.failures, p.until = 0, time.Time{}
		return false
	}
	p.failures++
	p.until = time.Now().Add(backoff(p.failures))
	return p.failures == 1
}

// ask asks AWS about the instances of deliveries.
func (r *Reader) ask(ctx context.Context, deliveries []*delivery) (words, error) {
	if r.away.spent() {
		return words{}, errAway
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var ids, held []string
	for _, l := range deliveries {
		if l.msg.Kind == Parked || l.msg.Kind == Warned {
			continue
		}
		ids = append(ids, l.msg.InstanceID)
		if l.msg.Kind == Ended && l.msg.Hook != "" {
			held = append(held, l.msg.InstanceID)
		}
	}
	if len(ids) == 0 {
		return words{}, nil
	}
	var w words
	var err error
	if w.instances, err = describe(ctx, r.ec2, ids); err == nil && len(held) > 0 {
		w.states, err = r.hooks.states(ctx, held)
	}
	if first := r.away.note(err); first {
		r.log.Warn("messages wait for an answer of AWS", "messages", len(ids), "err", withHint(err))
	}
	return w, err
}

// heldTermination is one that a message reported and that needs AWS's confirmation.
type heldTermination struct {
	role Role
	at   time.Time
}

// ledger remembers terminations that messages reported and that were not carried out.
type ledger struct {
	mu   sync.Mutex
	held map[string]heldTermination
	// lives are those that EC2 reports as running: reported, and not terminated.
	lives map[string]time.Time
}

// livesFor is how long such an instance is shown.
const livesFor = 24 * time.Hour

func (l *ledger) hold(id string, role Role) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[string]heldTermination{}
	}
	_, known := l.held[id]
	if known || len(l.held) < maxHeld {
		l.held[id] = heldTermination{role, time.Now()}
	}
	return !known
}

// refute records a termination that EC2 contradicts, and returns the number of those.
func (l *ledger) refute(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, id)
	if l.lives == nil {
		l.lives = map[string]time.Time{}
	}
	if _, known := l.lives[id]; known || len(l.lives) < maxHeld {
		l.lives[id] = time.Now()
	}
	return len(l.lives)
}

// clear forgets a termination that was carried out, or that did not happen.
func (l *ledger) clear(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, id)
	delete(l.lives, id)
}

// lists returns both, without old ones.
func (l *ledger) lists() (held map[string]Role, lives []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held = map[string]Role{}
	for id, h := range l.held {
		if time.Since(h.at) > heldFor {
			delete(l.held, id)
			continue
		}
		held[id] = h.role
	}
	for id, at := range l.lives {
		if time.Since(at) > livesFor {
			delete(l.lives, id)
			continue
		}
		lives = append(lives, id)
	}
	return held, lives
}

// listed reports whether a row says LAUNCH.
func listed(row fleet.Minion, master fleet.Master) bool {
	return row.Status == fleet.Launch || master.Status == fleet.Launch
}
