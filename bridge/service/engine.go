package service

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// Master is what the engine asks of the Salt master.
type Master interface {
	Accept(ctx context.Context, ids []string) error
	Delete(ctx context.Context, keys map[salt.State][]string) error
	Publish(ctx context.Context, job salt.Job) (minions []string, err error)
	Ping(ctx context.Context, jid string, ids []string) (minions []string, err error)
	Ask(ctx context.Context, jid string, q salt.Question, ids []string) error
}

// KeyStore is what the engine asks of the master's key store.
type KeyStore interface {
	List() (salt.Listing, error)
	// Read returns the text of a key, or an error that is salt.ErrNoKey.
	Read(id string, state salt.State) ([]byte, error)
	// Version returns the version of a key's file.
	Version(id string, state salt.State) (salt.FileVersion, error)
	// UnlinkPending takes out a pending key, if its text is still seen.
	UnlinkPending(id string, seen []byte) error
	// WriteAccepted writes known keys as accepted. It returns those that are new,
	// and why others were not written; err is what concerns all of them.
	WriteAccepted(keys map[string][]byte) (written []string, faults map[string]error, err error)
}

// Names maps Salt minion ids to instances, where the two differ (id_from).
type Names interface {
	// Instances gives, for each id that exactly one living instance bears, that
	// instance's.
	Instances(ctx context.Context, minionIDs []string) (map[string]string, error)
}

// Proofs returns what instances wrote of their own keys (admit: proven).
type Proofs interface {
	Proofs(ctx context.Context, instanceIDs []string) (map[string]fleet.Proof, error)
}

// MasterState is what the engine asks of the heartbeats; see Heartbeats.
type MasterState interface {
	LeaseValid(now time.Time) bool
	Draining() bool
	OwnerLiveness(row fleet.Minion) decide.Liveness
	Changed() <-chan struct{}
	SetMinions(n int)
	SetQueued(n int)
}

// Config is what an operator may say to the engine.
type Config struct {
	InstanceID  string
	Incarnation string
	Admit       decide.Admit
	ValidID     func(string) bool

	Highstate   decide.Policy
	Function    string         // the first highstate: state.highstate
	Args        []any          // positional
	Kwargs      map[string]any // keyword
	Concurrency int            // highstates of this master at a time

	Breakers fleet.Breakers // nil: no circuit breaker

	Names Names // nil: a minion's id is its instance's
	// FirstName: Names goes by what minions call themselves, and several ids may name one
	// instance. The first one that a row is bound to is the instance's for good.
	FirstName bool
	Proofs    Proofs // nil unless Admit is Proven

	Accepted AcceptedKeys     // nil: remembered until the process ends
	Wall     func() time.Time // the time of day; nil: the engine's own clock

	ResyncEvery time.Duration // keys and fleet are compared, jittered by the caller
	PollEvery   time.Duration // the store is asked for new terminations
	// LaunchPollEvery: with admit: proven, the store is asked for new launches; zero:
	// the default.
	LaunchPollEvery time.Duration
	UnknownFor      time.Duration // an id without a row is not looked up again
}

// Waits and limits of the engine.
const (
	// deleteEvery: each call that deletes keys makes the master rotate its AES
	// key, and every minion authenticates anew.
	deleteEvery = time.Minute
	// deleteBatch bounds the keys of one such call. Salt 3008 takes some 5 ms a key.
	deleteBatch = 500
	// knownFor: how long a row that needs nothing done is good for a decision.
	knownFor = 10 * time.Second
	// batch bounds what one call of store or master is asked for, and how many ids
	// a step checks before it publishes, records and deletes.
	batch = 500
	// countAcceptedEvery bounds how often accepted keys are counted between comparisons: a
	// listing of folders. Strangers who ask to be accepted let it happen that often.
	countAcceptedEvery = 15 * time.Second
	// jobsFor: how long the answer to an ask or a ping may take to matter.
	jobsFor = 10 * time.Minute
	// unstableFor: a key file that is being written is read again after that.
	unstableFor = 5 * time.Second
)

// core is what both halves of the engine use: the outside world, and what is remembered
// of rows.
type core struct {
	store  fleet.Store
	master Master
	beats  MasterState
	inbox  *Inbox
	audit  *Audit
	log    *slog.Logger
	cfg    Config
	now    func() time.Time

	rows      rowCache     // rows that need nothing done, and ids without one
	unchanged unchangedIDs // ids that a comparison need not read
}

// wall is the time of day, by which rows are written and found. It may be set
// forth and back; what lasts is measured by now.
func (c *core) wall() time.Time {
	if c.cfg.Wall != nil {
		return c.cfg.Wall()
	}
	return c.now()
}

// Engine decides and acts. All its methods but Status belong to one goroutine. This half
// decides about keys; the driver runs first highstates.
type Engine struct {
	driver
	keys KeyStore

	names         nameMap       // which instance bears which id
	missingProofs missingProofs // which instances have not written theirs
	accepted      AcceptedKeys  // which keys this master has accepted, remembered over restarts
	// formerKeys are, by id, the keys that those that were seen accepted had replaced
	// (shortKey; zero: none).
	formerKeys map[string][8]byte

	stages    map[stageName]stage
	queue     workQueue       // ids whose keys are to be checked
	restoring map[string]bool // ids whose known key an admin wants back
	problems  problems        // ids passed over, or odd, by name
	clock     clockWatch      // whether the wall clock went as the monotonic one

	resyncs      resyncs
	terminations terminations
	launches     launches // instances that launched lately

	deletes     map[string]fleet.Minion // terminated, with keys here; what the row said is a hint
	undeletable map[string]*pause       // terminated, with keys that cannot be deleted
	deleteAt    time.Time
	deleteSize  int // how many the next call deletes at the most

	wrong      map[string]string    // digests of keys that were accepted in another's place
	refusals   int                  // keys whose acceptance was refused alone, in a row
	repairedAt map[string]time.Time // when an accepted key that is none was last written anew

	recount   bool      // accepted keys may have come or gone since they were counted
	recountAt time.Time // when they are counted again at the soonest

	preloaded     bool // false: known keys are still to be written
	keysPreloaded bool // they were written once
	status        statusBox
}

// NewEngine makes an engine; it does nothing until Step is called.
func NewEngine(cfg Config, store fleet.Store, master Master, keys KeyStore, beats MasterState,
	inbox *Inbox, audit *Audit, now func() time.Time, log *slog.Logger) *Engine {
	if cfg.LaunchPollEvery == 0 {
		cfg.LaunchPollEvery = LaunchPollEvery
	}
	accepted := cfg.Accepted
	if accepted == nil {
		accepted = acceptedInMemory{}
	}
	c := core{store: store, master: master, beats: beats, inbox: inbox, audit: audit, log: log, cfg: cfg, now: now,
		unchanged: unchangedIDs{}}
	c.rows.reset()
	e := &Engine{driver: driver{core: c, rule: decide.Highstate, highstates: map[string]*highstate{},
		jobs: map[string]job{}},
		keys: keys, names: newNames(cfg.Names), missingProofs: missingProofs{}, accepted: accepted,
		formerKeys: map[string][8]byte{},
		stages:     map[stageName]stage{}, queue: newWaiting(), restoring: map[string]bool{}, problems: problems{},
		launches: launches{expected: map[string]*expectedMinion{}},
		deletes:  map[string]fleet.Minion{}, undeletable: map[string]*pause{}, deleteSize: deleteBatch,
		wrong: map[string]string{}, repairedAt: map[string]time.Time{}}
	e.rowRead = e.updateRow
	return e
}

// Run calls Step whenever something happened or is due, until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time // end of the last step
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.inbox.Wake():
			if time.Since(last) < debouncePause && !e.queue.any() {
				e.inbox.debounce(ctx)
			}
		case <-e.beats.Changed():
		case <-timer.C:
		}
		next := e.Step(ctx)
		last = time.Now()
		timer.Reset(max(next.Sub(e.now()), 0))
	}
}

// Step does what is due, a batch of each kind of work, and says when it must be
// called again at the latest. Where there is more work of a kind than a batch,
// that is at once: so much work of one kind keeps no other kind waiting for longer
// than a batch takes. Each stage fails by itself, and loses nothing: what was not
// done is tried again after a back-off.
func (e *Engine) Step(ctx context.Context) time.Time {
	e.drainInbox()
	if !e.preloaded {
		e.preloaded = e.runStage(ctx, stagePreload, e.preloadKeys)
		e.keysPreloaded = e.keysPreloaded || e.preloaded
	}
	if len(e.restoring) > 0 {
		e.runStage(ctx, stagePreload, e.restore)
	}
	if e.resyncs.running != nil || e.resyncs.gap != "" || !e.now().Before(e.resyncs.at) {
		e.runStage(ctx, stageComparison, e.resync)
	}
	if !e.now().Before(e.terminations.pollAt) {
		e.runStage(ctx, stageTerminations, e.pollTerminated)
	}
	if e.acceptsAhead() && !e.now().Before(e.launches.pollAt) {
		e.runStage(ctx, stageLaunches, e.pollLaunches)
	}
	e.enqueueExpected()
	if e.stageDue(stageMinions) {
		if ids := e.queue.pop(batch, e.now()); len(ids) > 0 {
			if !e.runStage(ctx, stageMinions, func(ctx context.Context) error { return e.processIDs(ctx, ids) }) {
				for _, id := range slices.Sorted(maps.Keys(ids)) {
					e.queue.add(id, ids[id])
				}
			}
		}
	}
	// It waits by itself, for what is away of the two that it needs.
	if err := e.drive(ctx); ctx.Err() == nil {
		e.reportStage(stageHighstates, err, e.failures.tries)
	}
	if len(e.deletes) == 0 || !e.now().Before(e.deleteAt) {
		e.runStage(ctx, stageDeletes, e.deleteKeys)
	}
	if now := e.now(); now.Sub(e.jobsDroppedAt) >= jobsFor {
		e.dropOldJobs(now) // though no comparison can be ended
	}
	e.countAccepted()
	e.publishStatus()
	return e.nextDue(e.now())
}
