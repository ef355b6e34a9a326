package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"phoenix/bridge/retry"

	"golang.org/x/sync/errgroup"
)

const (
	// checkEvery: how often the agent probes the minion's current master. A check is two
	// connections.
	checkEvery = 5 * time.Second
	// recheckEvery is the same for a master that did not answer. Each such check reads the
	// masters too: the third read shows whether the heartbeat moves, see stillFor.
	recheckEvery = 4 * time.Second
	// pendingEvery: how often a restart that is due is tried.
	pendingEvery = time.Second
	// readWithin bounds one read of the masters.
	readWithin = 10 * time.Second
	// failingReads bounds how often in a row the masters are read because the current one
	// does not answer, or there is none yet: two minutes. After that more reads show
	// nothing new.
	failingReads = 30
	// intervalJitter lengthens each interval by up to that share, so that agents that
	// were started together drift apart.
	intervalJitter = 0.2
	// doubtEvery is the delay before an observation that must be made twice is repeated.
	doubtEvery = 5 * time.Second
	// unreachableAfter is the number of checks without an answer after which the current
	// master counts as unreachable.
	unreachableAfter = 2
	// disconnectedAfter is the number of checks without a connection after which the
	// minion counts as disconnected.
	disconnectedAfter = 3
	// MinInterval: a heartbeat moves every 5 s; reading more often shows nothing more.
	MinInterval = 5 * time.Second
)

// Agent is the loop beside one minion.
type Agent struct {
	o       Options
	watch   *Watch
	restart *Restart
	log     *slog.Logger
	began   time.Time

	listed             Listed            // as last read from the file
	byAddress          map[string]Master // listed masters, and those that rows name
	connected          []string          // the masters that the minion is connected to
	current            string            // the one that it is connected to, or was last
	missed             map[string]int    // checks in a row that a master did not answer
	disconnectedChecks int               // checks in a row at which the minion was connected to none
	disconnectedSince  time.Time         // the first of them
	reads              int               // reads in a row that were made because a master did not answer
	nextRead           time.Time         // of the masters
	good               time.Time         // when a read last led to a list
	logged             map[string]string // errors by subject, see logChange

	pending PendingRestart // as last read from the file
	last    Decision       // the last one that led to a list
	urgency Urgency        // of the pending restart

	turned      atomic.Int64 // when the loop last came round, in Unix nanoseconds
	clearFailed bool         // the minion was restarted, but the file still says that a restart is pending
}

// New checks the options.
func New(o Options) (*Agent, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	a := &Agent{o: o, watch: NewWatch(o.MinionID, o.Order, o.Follow), restart: NewRestart(o.Highstates...), log: o.Log,
		began: time.Now(), byAddress: map[string]Master{}, missed: map[string]int{}, logged: map[string]string{}}
	a.turned.Store(time.Now().UnixNano())
	return a, nil
}

// Run runs until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if a.o.Proof != nil {
		g.Go(func() error { return a.o.Proof.Run(ctx, a.o.Minion, a.log) })
	}
	g.Go(func() error { return a.loop(ctx) })
	return g.Wait()
}

// loop checks, reads, writes and restarts, all in one goroutine.
func (a *Agent) loop(ctx context.Context) error {
	a.check(ctx)
	a.loadPending()
	nextCheck := time.Now().Add(checkEvery)
	for ctx.Err() == nil {
		a.turned.Store(time.Now().UnixNano())
		if now := time.Now(); !now.Before(nextCheck) {
			a.check(ctx)
			nextCheck = now.Add(checkEvery)
			if len(a.missed) > 0 {
				nextCheck = now.Add(recheckEvery)
			}
		}
		if !time.Now().Before(a.nextRead) {
			a.read(ctx)
		}
		if a.restart.Due(time.Now(), a.urgent(), a.hopeful()) {
			a.restartMinion(ctx)
		}
		wake := minTime(nextCheck, a.nextRead)
		if a.restart.Pending() {
			wake = minTime(wake, time.Now().Add(pendingEvery))
		}
		if !retry.Sleep(ctx, time.Until(wake)) {
			return nil
		}
	}
	return nil
}

// Turned is when the loop last came round; before Run, when the agent was made.
func (a *Agent) Turned() time.Time { return time.Unix(0, a.turned.Load()) }

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
