package health

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// askEvery: a request costs the master a millisecond of one worker.
	askEvery = 5 * time.Second
	// hurryEvery: how often one is asked that has just begun to answer.
	hurryEvery = time.Second
	// lookEvery: how often it is decided anew. That reads memory only.
	lookEvery = time.Second
	// late is how long a request waits for an answer. One that comes after the proof
	// is lost does not make the master ready, but tells one with much to do from one
	// that is dead: that is not to be replaced.
	late = time.Minute
	// hurried is how many requests may wait while more are made in a hurry.
	hurried = 3
	// atATime bounds the requests that wait for an answer: one each askEvery, and
	// those made in a hurry.
	atATime = int(late/askEvery) + hurried
)

// Watch proves again and again that a master serves.
type Watch struct {
	ask func(context.Context) error
	bus func() bool

	mu     sync.Mutex
	proof  Proof
	answer error
}

// NewWatch makes a watch. ask makes a request that a worker of the master must
// answer, and bus reports whether the event bus is connected.
func NewWatch(ask func(context.Context) error, bus func() bool) *Watch {
	w := &Watch{ask: ask, bus: bus}
	w.update(time.Now())
	return w
}

// Run asks until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	slots := make(chan struct{}, atATime)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var asked time.Time
	for {
		now := time.Now()
		every := w.update(now)
		if len(slots) >= hurried {
			every = askEvery
		}
		if now.Sub(asked) >= every {
			select {
			case slots <- struct{}{}:
				asked = now
				asking.Go(func() {
					defer func() { <-slots }()
					w.once(ctx)
				})
			default: // as many as may wait, do
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// errLate: a request was not answered while the proof holds.
var errLate = fmt.Errorf("no answer within %v", Lost)

// once makes one request.
func (w *Watch) once(ctx context.Context) {
	timed, cancel := context.WithTimeout(ctx, late)
	defer cancel()
	slow := time.AfterFunc(Lost, func() { w.take(ctx, func() { w.proof.Failed(errLate) }) })
	err := w.ask(timed)
	inTime := slow.Stop()
	w.take(ctx, func() {
		switch {
		case err == nil && inTime:
			w.proof.Answered(time.Now())
		case err == nil:
			w.proof.AnsweredLate(time.Now())
		default:
			if inTime {
				w.proof.Failed(err)
			}
			w.proof.Unanswered()
		}
	})
}

// take takes in what came of a request, unless the watch is over.
func (w *Watch) take(ctx context.Context, in func()) {
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	in()
	w.mu.Unlock()
	w.update(time.Now())
}

// update decides, and says when to ask next.
func (w *Watch) update(now time.Time) (every time.Duration) {
	connected := w.bus()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proof.Bus(connected, now)
	w.answer = w.proof.Check(now)
	if w.proof.Hurry() {
		return hurryEvery
	}
	return askEvery
}

// Fault says why the master is not proven to serve; nil: it is. It may be called
// by any goroutine.
func (w *Watch) Fault() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.answer
}

// Proven is when the master was last proven to serve; zero: never.
func (w *Watch) Proven() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.proof.Proven()
}

// Served reports whether the master was proven to serve since the watch began.
func (w *Watch) Served() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.proof.served
}

// Alive is when a worker of the master last answered a request, however late; see
// Proof.Alive.
func (w *Watch) Alive() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.proof.Alive()
}
