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
	// Read gives the text of a key, or an error that is salt.ErrNoKey.
	Read(id string, state salt.State) ([]byte, error)
	// UnlinkPending takes out a pending key, if its text is still seen.
	UnlinkPending(id string, seen []byte) error
	// WriteAccepted writes known keys as accepted. It returns those that are new,
	// and why others were not written; err is what concerns all of them.
	WriteAccepted(keys map[string][]byte) (written []string, faults map[string]error, err error)
}

// Names tells which instance bears a Salt minion id, where that is not the
// instance's own id (id_from).
type Names interface {
	// Instances gives, for each id that exactly one living instance bears, that
	// instance's.
	Instances(ctx context.Context, minionIDs []string) (map[string]string, error)
}

// Proofs returns what instances wrote of their own keys (admit: proven).
type Proofs interface {
	Proofs(ctx context.Context, instanceIDs []string) (map[string]fleet.Proof, error)
}

// Pulse is what the engine asks of the heartbeats; see Beats.
type Pulse interface {
	Reach(now time.Time) bool
	Draining() bool
	Pulse(row fleet.Minion) decide.Pulse
	Changed() <-chan struct{}
	Cleared()
	SetMinions(n int)
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

	Names  Names  // nil: a minion's id is its instance's
	Proofs Proofs // nil unless Admit is Proven

	Accepted AcceptedKeys     // nil: remembered until the process ends
	Wall     func() time.Time // the time of day; nil: the engine's own clock

	CompareEvery time.Duration // keys and fleet are compared, jittered by the caller
	PollEvery    time.Duration // the store is asked for new terminations
	UnknownFor   time.Duration // an id without a row is not looked up again
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
	// a step looks at before it comes to publishing, recording and deleting.
	batch = 500
	// jobsFor: how long the answer to an ask or a ping may take to matter.
	jobsFor = 10 * time.Minute
	// unsettledFor: a key file that is being written is read again after that.
	unsettledFor = 5 * time.Second
)

// Engine decides and acts. All its methods but those of Inbox and Status belong
// to one goroutine.
type Engine struct {
	store  fleet.Store
	master Master
	keys   KeyStore
	beats  Pulse
	inbox  *Inbox
	audit  *Audit
	log    *slog.Logger
	cfg    Config
	now    func() time.Time
	rule   func(decide.Policy, decide.Self, decide.Pulse, decide.Course, time.Time) decide.Step

	courses map[string]*course // first highstates that are still wanted, by id
	rows    lookups            // rows that need nothing done, and ids without one
	names   names              // which instance bears which id
	proofs  proofs             // which instances have not written theirs
	jobs    map[string]job     // pings and questions under way, by jid
	holds   holds              // what fails for all, see drive
	lastJID string

	stages    map[stageName]stage
	restoring map[string]bool // ids whose known key an admin wants back
	waiting   waiting         // ids whose keys are to be looked at
	accepted  AcceptedKeys    // which keys this master has accepted, remembered over restarts
	problems  problems        // ids passed over, or odd, by name
	clock     steadiness      // whether the wall clock went as the monotonic one

	settled       settled   // ids that a comparison need not read
	sweep         *sweep    // the comparison under way; nil: none
	comparedAt    time.Time // begin of the last comparison, by the wall clock
	compareFullAt time.Time // when one reads all again

	deletes    map[string]fleet.Minion // terminated, with keys here; what the row said is a hint
	wrong      map[string]string       // digests of keys that were accepted in another's place
	refused    int                     // keys whose acceptance was refused alone, in a row
	mended     map[string]time.Time    // when an accepted key that is none was last written anew
	stuck      map[string]*pause       // terminated, with keys that cannot be deleted
	deleteAt   time.Time
	deleteSize int // how many the next call deletes at the most
	compareAt  time.Time
	gap        string // why a comparison is due before compareAt; empty: it is not
	pollAt     time.Time
	fullAt     time.Time
	pollFull   bool      // the next poll reads all terminations
	terminated watermark // of rows that say TERMINATE
	polled     bool      // since the last time that all keys were gone
	preloaded  bool      // false: known keys are still to be written
	warm       bool      // they were written once
	compared   bool
	census     Census
	took       time.Duration // of the last comparison
	tidied     time.Time     // when jobs that are over were forgotten
	status     statusBox
}

// course is a minion's course, by its Salt id, and when to look at it again.
type course struct {
	decide.Course
	opened time.Time
	due    time.Time // zero: at once
	queued bool      // waits for a slot
	stale  bool      // a write ended in doubt: read the row before anything else
	why    string    // the reason of the last step, for people

	answers   salt.Answers // to the last question after its job
	answersTo time.Time    // when that was sent
	unread    string       // why its last answer was not understood
	held      [sides]hold  // after failures that concern it alone
	alone     bool         // its highstate is published by itself: it may be why others' are not
}

// NewEngine makes an engine; it does nothing until Step is called.
func NewEngine(cfg Config, store fleet.Store, master Master, keys KeyStore, beats Pulse,
	inbox *Inbox, audit *Audit, now func() time.Time, log *slog.Logger) *Engine {
	e := &Engine{store: store, master: master, keys: keys, beats: beats, inbox: inbox, audit: audit,
		log: log, cfg: cfg, now: now, rule: decide.Next, stages: map[stageName]stage{}, restoring: map[string]bool{}, waiting: newWaiting(),
		accepted: cfg.Accepted, problems: problems{}, stuck: map[string]*pause{}, wrong: map[string]string{}, mended: map[string]time.Time{}, deleteSize: deleteBatch,
		courses: map[string]*course{}, jobs: map[string]job{}, settled: settled{}, deletes: map[string]fleet.Minion{}}
	e.rows.reset()
	e.names = newNames(cfg.Names)
	e.proofs = proofs{}
	if e.accepted == nil {
		e.accepted = acceptedInMemory{}
	}
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
			if time.Since(last) < rushPause && !e.waiting.any() {
				e.inbox.gather(ctx)
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
// that is at once: so a crowd of one kind keeps no other kind waiting for longer
// than a batch takes. Each stage fails by itself, and loses nothing: what was not
// done is looked at again after a back-off.
func (e *Engine) Step(ctx context.Context) time.Time {
	e.takeInbox()
	if !e.preloaded {
		e.preloaded = e.work(ctx, stagePreload, e.preload)
		e.warm = e.warm || e.preloaded
	}
	if len(e.restoring) > 0 {
		e.work(ctx, stagePreload, e.restore)
	}
	if e.sweep != nil || e.gap != "" || !e.now().Before(e.compareAt) {
		e.work(ctx, stageComparison, e.compare)
	}
	if !e.now().Before(e.pollAt) {
		e.work(ctx, stageTerminations, e.pollTerminated)
	}
	if e.ready(stageLooks) {
		if looks := e.waiting.take(batch, e.now()); len(looks) > 0 {
			if !e.work(ctx, stageLooks, func(ctx context.Context) error { return e.lookAt(ctx, looks) }) {
				for _, id := range slices.Sorted(maps.Keys(looks)) {
					e.waiting.add(id, looks[id])
				}
			}
		}
	}
	// It waits by itself, for what is away of the two that it needs.
	if err := e.drive(ctx); ctx.Err() == nil {
		e.told(stageHighstates, err)
	}
	e.work(ctx, stageDeletes, e.deleteKeys)
	if now := e.now(); now.Sub(e.tidied) >= jobsFor {
		e.tidyJobs(now) // though no comparison can be ended
	}
	e.publishStatus()
	return e.nextDue(e.now())
}

// takeInbox takes in what has gathered. It asks nobody for anything.
func (e *Engine) takeInbox() {
	w := e.inbox.take()
	if e.clock.stepped(e.now(), e.wall()) {
		// Rows are found by when they were written. With a clock that was off, those
		// written since may have been passed over.
		e.log.Warn("the clock was set; all terminations and changes are read again")
		e.pollFull, e.compareFullAt, e.pollAt, e.compareAt = true, time.Time{}, time.Time{}, time.Time{}
		e.preloaded = false
	}
	for id, row := range w.wrote {
		if !w.forget[id] && e.takeIn(row) {
			continue
		}
		w.forget[id] = true
	}
	for id := range w.forget {
		if name := e.names.of(id); name != id {
			e.forget(name)
			w.looks[name] = w.looks[name] || w.looks[id]
		}
		e.forget(id)
	}
	e.hearReturns(w.returns, e.now())
	for _, id := range slices.Sorted(maps.Keys(w.looks)) { // sorted: the same work gives the same calls
		if e.waiting.len() >= 2*maxWaiting { // the store is away, or ids come faster than they are worked off
			e.inbox.overflow(len(w.looks))
			w.gap = tooMuch
			break
		}
		e.waiting.add(id, w.looks[id])
	}
	maps.Copy(e.restoring, w.restore)
	if w.gap != "" {
		e.gap = w.gap
	}
}

// takeIn takes a row for read that a message wrote, and says whether it did: it
// must be newer than what is known. It is if nothing was known, or if it tells of
// a termination, which is final.
func (e *Engine) takeIn(row fleet.Minion) bool {
	id := row.InstanceID
	known, found := e.rows.get(id, e.now())
	if e.cfg.Names != nil || e.courses[id] != nil || found && known.found {
		if e.cfg.Names != nil || row.Status != fleet.Terminate {
			return false
		}
	}
	delete(e.proofs, id)
	e.saw(id, lookup{row: row, found: true})
	return true
}

// forget drops what is remembered of a row that somebody else changed.
func (e *Engine) forget(id string) {
	e.rows.drop(id)
	delete(e.proofs, id)
	delete(e.settled, id)
	if c := e.courses[id]; c != nil {
		c.stale, c.due = true, time.Time{}
	}
}

func (e *Engine) nextDue(now time.Time) time.Time {
	compareAt := e.compareAt
	if e.sweep != nil || e.gap != "" {
		compareAt = now
	}
	next := e.due(stageComparison, compareAt)
	sooner := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	sooner(e.due(stageTerminations, e.pollAt))
	if !e.preloaded || len(e.restoring) > 0 {
		sooner(e.due(stagePreload, now))
	}
	if e.waiting.any() {
		sooner(e.due(stageLooks, now))
	}
	if !e.waiting.laterAt.IsZero() {
		sooner(e.due(stageLooks, e.waiting.laterAt))
	}
	for _, c := range e.courses {
		if !c.queued {
			sooner(e.due(stageHighstates, c.due))
		}
	}
	if len(e.deletes) > 0 {
		sooner(e.due(stageDeletes, e.deleteAt))
	}
	return next
}

// wall is the time of day, by which rows are written and found. It may be set
// forth and back; what lasts is measured by now.
func (e *Engine) wall() time.Time {
	if e.cfg.Wall != nil {
		return e.cfg.Wall()
	}
	return e.now()
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
