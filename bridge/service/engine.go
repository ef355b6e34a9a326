package service

import (
	"context"
	"log/slog"
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
	AskAfter(ctx context.Context, jids [salt.Questions]string, job string, ids []string) error
}

// KeyStore is what the engine asks of the master's key store.
type KeyStore interface {
	List() (salt.Listing, error)
	// Read gives the text of a key, or an error that is salt.ErrNoKey.
	Read(id string, state salt.State) ([]byte, error)
	// UnlinkPending removes a pending key if it is still the one that was seen, else
	// the error is salt.ErrChanged.
	UnlinkPending(id string, seen []byte) error
	// WriteAccepted writes known keys as accepted; see salt.Keys.
	WriteAccepted(keys map[string][]byte) (written []string, faults map[string]error, err error)
}

// Names tells which instance bears a Salt minion id, where that is not the
// instance's own id (id_from).
type Names interface {
	// Instances gives, for each id that exactly one living instance bears, that
	// instance's.
	Instances(ctx context.Context, minionIDs []string) (map[string]string, error)
}

// Proofs gives the digests that instances wrote of their own keys (admit: proven).
type Proofs interface {
	Proofs(ctx context.Context, instanceIDs []string) (map[string]string, error)
}

// Pulse is what the engine asks of the heartbeats; see Beats.
type Pulse interface {
	Reach(now time.Time) bool
	Pulse(row fleet.Minion) decide.Pulse
	Changed() <-chan struct{}
	Cleared()
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

	CompareEvery time.Duration // keys and fleet are compared, jittered by the caller
	PollEvery    time.Duration // the store is asked for new terminations
	UnknownFor   time.Duration // an id without a row is not looked up again
}

// Waits and limits of the engine.
const (
	// deleteEvery: each call that deletes keys makes the master rotate its AES
	// key, and every minion authenticates anew.
	deleteEvery = time.Minute
	// knownFor: how long a row that needs nothing done is good for a decision.
	knownFor = 10 * time.Second
	// batch bounds what one call of store or master is asked for.
	batch = 500
	// retryFirst, retryMost: the back-off while store or master do not answer.
	retryFirst = 500 * time.Millisecond
	retryMost  = 30 * time.Second
	// jobsFor: how long the answer to an ask or a ping may take to matter.
	jobsFor = 10 * time.Minute
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
	jobs    map[string]job     // pings and asks under way, by jid
	lastJID string

	settled       settled   // ids that a comparison need not read
	comparedAt    time.Time // begin of the last comparison
	compareFullAt time.Time // when one reads all again

	deletes    map[string]fleet.Minion // terminated, with keys here
	deleteAt   time.Time
	compareAt  time.Time
	pollAt     time.Time
	fullAt     time.Time
	polled     bool   // since the last time that all keys were gone
	terminated string // Modified of the newest row seen that says TERMINATE
	failures   int    // of the store or the master, in a row
	warmed     bool
	compared   bool
	census     Census
	took       time.Duration // of the last comparison
	status     statusBox
}

// course is a minion's course, by its Salt id, and when to look at it again.
type course struct {
	decide.Course
	due    time.Time // zero: at once
	queued bool      // waits for a slot
	stale  bool      // a write ended in doubt: read the row before anything else
	why    string    // the reason of the last step, for people

	answers   salt.Answers // to the last question after its job
	answersTo time.Time    // when that was sent
}

// NewEngine makes an engine; it does nothing until Step is called.
func NewEngine(cfg Config, store fleet.Store, master Master, keys KeyStore, beats Pulse,
	inbox *Inbox, audit *Audit, now func() time.Time, log *slog.Logger) *Engine {
	e := &Engine{store: store, master: master, keys: keys, beats: beats, inbox: inbox, audit: audit,
		log: log, cfg: cfg, now: now, rule: decide.Next,
		courses: map[string]*course{}, jobs: map[string]job{}, settled: settled{}, deletes: map[string]fleet.Minion{}}
	e.rows.reset()
	e.names = newNames(cfg.Names)
	e.proofs = proofs{}
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
			if time.Since(last) < rushPause {
				e.inbox.gather(ctx)
			}
		case <-e.beats.Changed():
		case <-timer.C:
		}
		next := e.Step(ctx)
		if e.failures > 0 && ctx.Err() == nil {
			// Whatever wakes us: while store or master fail, wait.
			if !sleep(ctx, time.Until(next)) {
				return nil
			}
			next = e.now()
		}
		last = time.Now()
		timer.Reset(max(time.Until(next), 0))
	}
}

// Step works off what has gathered and what is due, and says when it must be
// called again at the latest. An error of store or master loses nothing: what
// was not done is looked at again after a back-off.
func (e *Engine) Step(ctx context.Context) time.Time {
	w := e.inbox.take()
	err := e.step(ctx, w)
	now := e.now()
	if err == nil {
		e.failures = 0
		e.publishStatus("")
		return e.nextDue(now)
	}
	if ctx.Err() != nil {
		return now
	}
	e.putBack(w)
	e.failures++
	e.audit.HeldUp()
	wait := min(retryFirst<<min(e.failures-1, 8), retryMost)
	e.log.Warn("work held up", "err", err, "retry_in", wait, "failures", e.failures)
	e.publishStatus(err.Error())
	return now.Add(wait)
}

func (e *Engine) step(ctx context.Context, w work) error {
	now := e.now()
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
	e.hearReturns(w.returns, now)
	if !e.warmed {
		if err := e.warm(ctx); err != nil {
			return err
		}
		e.warmed = true
	}
	if w.gap != "" || !now.Before(e.compareAt) {
		if err := e.compare(ctx, w.gap); err != nil {
			return err
		}
	}
	if !now.Before(e.pollAt) {
		if err := e.pollTerminated(ctx); err != nil {
			return err
		}
	}
	if err := e.lookAt(ctx, w.looks); err != nil {
		return err
	}
	if err := e.drive(ctx); err != nil {
		return err
	}
	return e.deleteKeys(ctx)
}

// putBack keeps what a failed step did not get to. Returns are kept by their
// courses already (decide.Course.Ended).
func (e *Engine) putBack(w work) {
	for id, connected := range w.looks {
		e.inbox.Look(id, connected)
	}
	if w.gap != "" {
		e.inbox.Gap(w.gap)
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
	next := e.compareAt
	if e.pollAt.Before(next) {
		next = e.pollAt
	}
	for _, c := range e.courses {
		if !c.queued && c.due.Before(next) {
			next = c.due
		}
	}
	if len(e.deletes) > 0 && e.deleteAt.Before(next) {
		next = e.deleteAt
	}
	return next
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
