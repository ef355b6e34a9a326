package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"phoenix/bridge/admin"
	"phoenix/bridge/event"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
)

const (
	// answerEvery is how often a minion is asked whether it is connected; when it says that
	// it has started, at once.
	answerEvery = 5 * time.Second
	// besideEvery is how often the key store is read for one more key of the id, which
	// reads the row, too.
	besideEvery = 2 * time.Second
	// lastCall: a call that fails that shortly before the end of the wait was cut off by it.
	lastCall = 100 * time.Millisecond
	// beginsWithin bounds the wait for the first highstate of a minion that answers.
	beginsWithin = 15 * time.Second
)

// answerWait waits until the minion whose key was bound answers a ping. A claim of its
// first highstate is no answer: a bridge makes it before the minion has the job. Nor is a
// start event, which any accepted minion can send in its name; it says when to ask.
type answerWait struct {
	id      string
	client  *salt.Master
	started chan struct{} // holds one token after a start event
	heard   chan struct{} // is closed when the minion has answered
	once    sync.Once

	mu     sync.Mutex
	jids   map[string]bool // of the pings
	linked bool            // the event bus was connected once
}

// Event implements [bus.Handler].
func (w *answerWait) Event(e event.Event) {
	switch e.Kind {
	case event.KindStart:
		if s, err := e.Start(); err == nil && s.ID == w.id {
			w.wake()
		}
	case event.KindReturn:
		w.mu.Lock()
		asked := w.jids[string(e.JID)]
		w.mu.Unlock()
		if !asked {
			return
		}
		if r, err := e.Return(); err == nil && r.ID == w.id {
			w.once.Do(func() { close(w.heard) })
		}
	}
}

// Gap implements [bus.Handler].
func (w *answerWait) Gap(string) {
	w.mu.Lock()
	w.linked = true
	w.mu.Unlock()
	w.wake()
}

func (w *answerWait) wake() {
	select {
	case w.started <- struct{}{}:
	default:
	}
}

// ping asks once. The questions are sent after the new key was accepted, and Salt checks
// the token of a return with the accepted key (salt/channel/server.py, 3006.28, 3007.15,
// 3008.3; 3006.9 and 3007.1 have no such check: there the AES key, which changes, keeps out
// the former machine).
func (w *answerWait) ping(ctx context.Context, last string) (jid string, err error) {
	w.mu.Lock()
	linked := w.linked
	jid = salt.NewJID(time.Now(), last)
	w.jids[jid] = true
	w.mu.Unlock()
	if !linked {
		return jid, fmt.Errorf("event bus is not connected: %w", salt.ErrUnreachable)
	}
	_, err = w.client.Publish(ctx, salt.Job{JID: jid, Calls: []salt.Call{call("test.ping")}, Targets: []string{w.id}})
	return jid, err
}

// awaitAnswer waits until the minion of a rebinding that is done answers, and reports
// whether it did before ctx ended. fault is why it could not be asked the last time. beside
// is called with each other key that Salt denies, or holds as pending, meanwhile.
func awaitAnswer(ctx context.Context, a admin.Admin, r *admin.Rebinding,
	beside func(admin.OtherKey)) (answered bool, fault error) {
	master, _, client, err := open.Master(a.Config)
	if err != nil {
		return false, err
	}
	events, err := quietBus(master)
	if err != nil {
		return false, err
	}
	ctx, stop := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer stop()
	w := &answerWait{id: r.ID, client: client, started: make(chan struct{}, 1), heard: make(chan struct{}),
		jids: map[string]bool{}}
	reading.Go(func() { _ = events.Run(ctx, w) }) // it ends with ctx alone
	ask, look := time.NewTicker(answerEvery), time.NewTicker(besideEvery)
	defer ask.Stop()
	defer look.Stop()
	jid, seen := "", ""
	lookBeside := func() {
		if k, err := a.KeyBeside(ctx, r); err == nil && k != nil && k.Key != seen {
			seen = k.Key
			beside(*k)
		}
	}
	lookBeside()
	w.wake()
	for {
		select {
		case <-ctx.Done():
			return false, fault
		case <-w.heard:
			return true, nil
		case <-look.C:
			lookBeside()
			continue
		case <-w.started:
		case <-ask.C:
		}
		jid, err = w.ping(ctx, jid)
		if until, ends := ctx.Deadline(); ctx.Err() == nil && (!ends || time.Until(until) > lastCall) {
			fault = err // else the wait was over before the call was
		}
		if errors.Is(fault, salt.ErrRefused) {
			fault = nil // its key is not accepted yet: its next auth request brings it
		}
	}
}

// awaitBegin waits a moment until a bridge has begun the first highstate of a minion that
// answers, and reports whether one has.
func awaitBegin(ctx context.Context, a admin.Admin, r *admin.Rebinding) bool {
	ctx, cancel := context.WithTimeout(ctx, beginsWithin)
	defer cancel()
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		if begun, err := a.HighstateBegun(ctx, r); err == nil && begun {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-again.C:
		}
	}
}
