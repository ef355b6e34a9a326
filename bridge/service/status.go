package service

import (
	"strings"
	"sync/atomic"
	"time"

	"phoenix/bridge/fleet"
)

// Status is what the engine says of itself, as of its last step.
type Status struct {
	At            time.Time `json:"at"`
	Resynced      bool      `json:"compared"` // keys and fleet, once at least
	KeysPreloaded bool      `json:"warm"`     // known keys were written as accepted, once at least
	ResyncAt      time.Time `json:"compare_at"`
	// CompareTook is how long the last comparison took.
	ResyncTook time.Duration `json:"compare_took"`

	Census  Census `json:"census"` // of this master's key store, at the last comparison
	Waiting int    `json:"waiting"`
	Dropped int64  `json:"dropped"`
	Deletes int    `json:"deletes"` // ids whose keys wait to be deleted
	Tracked int    `json:"courses"` // minions that want their first highstate
	Running int    `json:"running"` // of those, run by this master
	Queued  int    `json:"queued"`  // of those, waiting for a slot
	Blocked int    `json:"blocked"` // of those, kept from it by a state run of somebody else
	Halted  int    `json:"halted"`  // of those, waiting for the circuit breaker
	Later   int    `json:"later"`   // of those that no master runs, to be tried or checked again at a known time
	Breaker string `json:"breaker"` // why the circuit breaker is open, as this bridge read it last; empty: it is closed
	Fault   string `json:"held"`    // what delays some of the work; empty: nothing
	// Stages says what delays which kind of work; the others continue.
	Stages map[string]string `json:"stages"`
	// Problems are ids that are passed over, or odd, in a brief report the first of each
	// kind; Problem counts them all by kind.
	Problems  []Problem           `json:"problems"`
	Problem   map[ProblemKind]int `json:"problem_counts"`
	Highstate []Progress          `json:"highstates"`
}

// Progress is the state of one first highstate. A status has at most maxProgress.
type Progress struct {
	Minion  string           `json:"minion"`
	State   fleet.ClaimState `json:"state"`
	Owner   string           `json:"owner"`
	JID     string           `json:"jid"`
	Attempt int              `json:"attempt"`
	Why     string           `json:"why"`             // nothing more is done right now
	Until   *time.Time       `json:"until,omitempty"` // then the next step is decided; nil: when something happens
}

// maxProgress bounds the highstates in one status.
const maxProgress = 100

type statusBox struct{ p atomic.Pointer[Status] }

// Status may be called by any goroutine.
func (e *Engine) Status() Status {
	if s := e.status.p.Load(); s != nil {
		return *s
	}
	return Status{}
}

// statusEvery: a status costs a walk over all highstates, so a busy engine does not
// make one after each step.
const statusEvery = 200 * time.Millisecond

func (e *Engine) publishStatus() {
	now, faults := e.now(), ""
	stages := map[string]string{}
	for _, name := range stageOrder {
		if fault := e.stages[name].fault; fault != "" {
			stages[string(name)] = fault
			faults += "; " + string(name) + ": " + fault
		}
	}
	faults = strings.TrimPrefix(faults, "; ")
	if old := e.status.p.Load(); old != nil && faults == old.Fault && now.Sub(old.At) < statusEvery &&
		len(e.highstates)+e.problems.len() > maxProgress {
		return
	}
	s := &Status{At: now, Resynced: e.resyncs.done, KeysPreloaded: e.keysPreloaded, ResyncAt: e.resyncs.at,
		ResyncTook: e.resyncs.took, Census: e.resyncs.census,
		Deletes: len(e.deletes), Tracked: len(e.highstates), Fault: faults, Stages: stages,
		Problems: e.problems.list(), Problem: e.problems.counts(), Blocked: e.countBlocked(), Breaker: e.breakerOpen()}
	s.Waiting, s.Dropped = e.inbox.waiting()
	s.Waiting += e.queue.len()
	s.Deletes += len(e.undeletable)
	for id, c := range e.highstates {
		if c.Row.ClaimState == fleet.Claimed && c.Row.ClaimOwner == e.cfg.InstanceID {
			s.Running++
		}
		if c.queued {
			s.Queued++
		}
		if c.halted {
			s.Halted++
		}
		if c.Row.ClaimState != fleet.Claimed && !c.queued && !c.halted && !c.until.IsZero() {
			s.Later++
		}
		if len(s.Highstate) < maxProgress {
			p := Progress{Minion: id, State: c.Row.ClaimState, Owner: c.Row.ClaimOwner,
				JID: c.Row.ClaimJID, Attempt: c.Row.Attempt, Why: c.why}
			if until := c.until; !until.IsZero() {
				p.Until = &until
			}
			s.Highstate = append(s.Highstate, p)
		}
	}
	e.beats.SetQueued(s.Queued)
	e.status.p.Store(s)
}
