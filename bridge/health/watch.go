package health

import (
	"context"
	"sync"
	"time"
)

const (
	// askEvery: a request costs the master a millisecond of one worker.
	askEvery = 5 * time.Second
	// hurryEvery: how often one is asked that has just begun to answer.
	hurryEvery = time.Second
	// lookEvery: how often it is decided anew. A look at memory.
	lookEvery = time.Second
	// atATime bounds the requests that wait for an answer. Each waits as long as
	// the proof holds: an answer that is late, of a master with much to do, is one.
	atATime = 3
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
// answer, and bus says whether the event bus is connected; nil: that is not asked.
func NewWatch(ask func(context.Context) error, bus func() bool) *Watch {
	w := &Watch{ask: ask, bus: bus}
	w.look(time.Now())
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
		if every := w.look(now); w.ask != nil && now.Sub(asked) >= every {
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

// once makes one request.
func (w *Watch) once(ctx context.Context) {
	timed, cancel := context.WithTimeout(ctx, Lost)
	defer cancel()
	err := w.ask(timed)
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	if err == nil {
		w.proof.Answered(time.Now())
	} else {
		w.proof.Failed(err)
	}
	w.mu.Unlock()
	w.look(time.Now())
}

// look decides, and says when to ask next.
func (w *Watch) look(now time.Time) (every time.Duration) {
	connected := w.bus == nil || w.bus()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proof.Bus(connected, now)
	if w.ask == nil {
		w.proof.Answered(now)
	}
	w.answer = w.proof.Look(now)
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
