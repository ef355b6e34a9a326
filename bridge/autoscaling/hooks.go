package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
)

const (
	// checkEvery is how soon a hook is completed after its row has changed. All rows are
	// read at once, and none while no instance waits.
	checkEvery = 15 * time.Second
	// tendFor is the longest time that AutoScaling keeps an instance waiting.
	tendFor = 48 * time.Hour
	// callsAtOnce bounds the concurrent calls that complete or extend hooks: one that
	// hangs does not delay the others.
	callsAtOnce = 8
	// maxWaits bounds the instances that wait. Reconciling finds the others later.
	maxWaits = 10_000
	// againMost bounds the pause before a call that failed is repeated.
	againMost = 5 * time.Minute
)

// Hooks completes the lifecycle hook of an instance once its condition is met: of a
// launching minion that its first highstate succeeded, of a launching master that it is
// ready, of a terminating minion that its row says TERMINATE, of a terminating master
// that no minion is left on it. The conditions are read from rows, and completing a hook
// that is over is no error. So any master may complete a hook, more than once, and by
// the instance's id alone: no token is stored.
//
// Hooks that Config.Hooks does not name are not touched.
type Hooks struct {
	cfg   Config
	store fleet.Store
	api   Lifecycle
	log   *slog.Logger
	wake  chan struct{}
	of    hookCache
	kept  keptLaunches

	liveness livenessWatch // of masters, while one waits

	mu    sync.Mutex
	waits map[[2]string]*wait // by instance and hook
}

// wait is one instance that waits in a hook. All but its first four fields belong to the
// goroutine that checks.
type wait struct {
	Message
	role  Role
	begun time.Time
	beat  time.Time // when it was last extended

	progress
	arrival   arrival
	empty     int       // checks in a row at which no minion was left on the master
	uncounted bool      // the minions left on it could not be counted
	lastAt    time.Time // when it was last the only master that serves
	lastSaid  bool

	failures int
	again    time.Time // no call is made before
}

// NewHooks makes Hooks without an instance that waits.
func NewHooks(cfg Config, store fleet.Store, api Lifecycle, log *slog.Logger) (*Hooks, error) {
	if store == nil || api == nil || log == nil {
		return nil, errors.New("tend hooks: a part is missing")
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("tend hooks: %w", err)
	}
	return &Hooks{cfg: cfg, store: store, api: api, log: log,
		wake: make(chan struct{}, 1), waits: map[[2]string]*wait{}}, nil
}

// Tend adds an instance that waits in a hook, whose row is written, and reports whether
// it is new. A hook with another's name is ignored.
func (h *Hooks) Tend(m Message, role Role) (news bool) {
	if !h.cfg.ourHook(m.Hook) {
		return false
	}
	key := [2]string{m.InstanceID, m.Hook}
	h.mu.Lock()
	old := h.waits[key]
	full := old == nil && len(h.waits) >= maxWaits
	if news = (old == nil || old.Kind != m.Kind) && !full; news {
		now := time.Now()
		// It was never extended: the hook may have begun to wait long before its message came.
		h.waits[key] = &wait{Message: m, role: role, begun: now, progress: progress{moved: now}}
	}
	h.mu.Unlock()
	if full {
		h.log.Warn("lifecycle hook ignored: too many wait", "instance", m.InstanceID, "hook", m.Hook,
			"waiting", maxWaits)
		return false
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return news
}

// Waiting returns how many instances wait.
func (h *Hooks) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waits)
}

// Proceed completes a hook that waits for nothing of Phoenix.
func (h *Hooks) Proceed(ctx context.Context, m Message) error { return h.end(ctx, m, goOn) }

// Run checks hooks until ctx ends, and then once more, so that an instance whose
// highstate has just been recorded does not wait for another master.
func (h *Hooks) Run(ctx context.Context) error {
	for {
		var tick <-chan time.Time
		if h.Waiting() > 0 {
			tick = time.After(checkEvery)
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), completeWithin)
			defer cancel()
			h.check(last)
			return nil
		case <-h.wake:
		case <-tick:
		}
		h.check(ctx)
	}
}

// check reads the rows of all instances that wait, and acts on them.
func (h *Hooks) check(ctx context.Context) {
	h.mu.Lock()
	waits := make([]*wait, 0, len(h.waits))
	ids := make([]string, 0, len(h.waits))
	for _, w := range h.waits {
		waits, ids = append(waits, w), append(ids, w.InstanceID)
	}
	h.mu.Unlock()
	if len(waits) == 0 {
		return
	}
	slices.Sort(ids)
	rows, err := h.store.Minions(ctx, slices.Compact(ids))
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		h.log.Warn("lifecycle hooks wait for the store", "waiting", len(waits), "err", err)
		return
	}
	// These need the rows of masters, too.
	ofMaster := func(w *wait) bool { return w.role == Masters }
	launching := func(w *wait) bool { return w.role != Masters && w.Kind == Launched }
	toBegin := func(w *wait) bool { return launching(w) && waitsToBegin(rows[w.InstanceID]) }
	var of map[string]fleet.Master
	if slices.ContainsFunc(waits, func(w *wait) bool { return ofMaster(w) || toBegin(w) }) {
		var badMasters map[string]error
		if of, badMasters, err = mastersOf(ctx, h.store); err != nil {
			h.log.Warn("lifecycle hooks wait for the store", "err", err)
			waits = slices.DeleteFunc(waits, func(w *wait) bool { return ofMaster(w) || toBegin(w) })
		}
		waits = slices.DeleteFunc(waits, func(w *wait) bool { return ofMaster(w) && badMasters[w.InstanceID] != nil })
	}
	if of != nil {
		h.liveness.observe(of, time.Now())
	}
	queued, halted := h.liveness.queued(of, time.Now()), false
	if h.cfg.Halted != nil && slices.ContainsFunc(waits, launching) {
		if halted, err = h.cfg.Halted(ctx); err != nil {
			h.log.Warn("launching lifecycle hooks wait for the store", "err", err)
			waits = slices.DeleteFunc(waits, launching)
		}
	}
	var calls errgroup.Group
	calls.SetLimit(callsAtOnce)
	for _, w := range waits {
		if bad[w.InstanceID] != nil || time.Now().Before(w.again) {
			continue // with a row that cannot be read only the hook's own timeout ends it
		}
		timeout := h.timeout(ctx, w.Group, w.Hook)
		step, why := h.decide(w, rows[w.InstanceID], of, halted, queued, timeout)
		calls.Go(func() error {
			h.do(ctx, w, step, why, timeout)
			return nil
		})
	}
	_ = calls.Wait() // each logs its own error
}

// decide returns what to do about an instance that waits, and the reason.
func (h *Hooks) decide(w *wait, row fleet.Minion, masters map[string]fleet.Master, halted, queued bool,
	timeout time.Duration) (step, string) {
	now := time.Now()
	master, found := masters[w.InstanceID]
	switch {
	case w.Kind == Launched && w.role == Masters:
		return nextOfMaster(w, row, w.arrival.see(master, found, now), now), ""
	case w.role == Masters:
		return h.nextOfLeaving(w, masters, timeout, now)
	case w.Kind == Launched:
		w.progress.see(row, now)
		// The wait in a queue of Phoenix does not count.
		if halted && waitsForBreaker(row) || queued && waitsToBegin(row) {
			w.moved = now
		}
		return next(w, row, h.cfg.Attempts, timeout, now)
	}
	return nextOfEnded(w, row, now), ""
}

// do carries out a step.
func (h *Hooks) do(ctx context.Context, w *wait, s step, why string, timeout time.Duration) {
	var err error
	switch s {
	case stay:
		return
	case drop:
		h.forget(w)
		return
	case beat:
		if time.Since(w.beat) < min(beatMost, timeout/3) {
			return
		}
		w.beat = time.Now()
		if err := h.heartbeat(ctx, w.Message); err != nil {
			h.log.Warn("lifecycle hook not extended", "instance", w.InstanceID, "hook", w.Hook, "err", withHint(err))
		}
		return
	case proceed:
		if err = h.end(ctx, w.Message, goOn); err == nil && why != "" {
			h.cfg.decided(h.log, "terminating master let go", w.InstanceID, "group", w.Group, "hook", w.Hook,
				"reason", why)
			h.retire(ctx, w.Message)
		}
	case abandon:
		err = h.abandon(ctx, w, why, timeout)
	}
	switch {
	case err == nil:
		h.forget(w)
		return
	case errors.Is(err, errChanged):
		return
	}
	w.failures++
	w.again = time.Now().Add(min(checkEvery<<min(w.failures-1, 10), againMost))
	if w.failures == 1 {
		h.log.Warn("lifecycle hook not completed; retrying", "instance", w.InstanceID, "hook", w.Hook, "step", s, "err",
			withHint(err))
	}
}

func (h *Hooks) forget(w *wait) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if key := [2]string{w.InstanceID, w.Hook}; h.waits[key] == w {
		delete(h.waits, key)
	}
}

// mastersOf returns all masters' rows by id, and the ids of those that cannot be read.
func mastersOf(ctx context.Context, store fleet.Store) (of map[string]fleet.Master, bad map[string]error, err error) {
	rows, err := store.Masters(ctx)
	if bad, err = fleet.WithoutBadRows(err); err != nil {
		return nil, nil, fmt.Errorf("list masters: %w", err)
	}
	of = make(map[string]fleet.Master, len(rows))
	for _, m := range rows {
		of[m.InstanceID] = m
	}
	return of, bad, nil
}
