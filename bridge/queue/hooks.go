package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/smithy-go"

	"phoenix/bridge/fleet"
)

// Lifecycle is as much of AutoScaling's API as hooks need.
type Lifecycle interface {
	CompleteLifecycleAction(context.Context, *autoscaling.CompleteLifecycleActionInput, ...func(*autoscaling.Options)) (*autoscaling.CompleteLifecycleActionOutput, error)
	RecordLifecycleActionHeartbeat(context.Context, *autoscaling.RecordLifecycleActionHeartbeatInput, ...func(*autoscaling.Options)) (*autoscaling.RecordLifecycleActionHeartbeatOutput, error)
}

const (
	// lookEvery: how soon a hook follows its row. All rows are read at once, and
	// none while no instance waits.
	lookEvery = 15 * time.Second
	// beatEvery: a hook's timeout must be longer, five minutes at least.
	beatEvery = 2 * time.Minute
	// keyWithin: a terminating instance waits no longer for its key to go; deletes
	// are paced, one batch a minute.
	keyWithin = 5 * time.Minute
	// tendFor: AutoScaling itself keeps no instance waiting for longer.
	tendFor = 48 * time.Hour
	// completeWithin bounds a call that ends a hook, and the last look while the
	// bridge stops.
	completeWithin = 10 * time.Second
)

// The results that a lifecycle action may have.
const (
	goOn   = "CONTINUE"
	giveUp = "ABANDON"
)

// Hooks lets an instance go on once what its lifecycle hook waits for is so: a
// launching one after its first highstate succeeded, a launching master as soon as it
// is ready, a terminating one after its key is gone from the living masters. What is
// so, rows and key store say; whoever finds it so ends the hook, and to end one that
// is over is no error. So it may be done by any master,
// twice, and by the instance's id alone: no token need be remembered.
type Hooks struct {
	cfg   Config
	store fleet.Store
	api   Lifecycle
	gone  func(minionID string) (bool, error)
	log   *slog.Logger
	wake  chan struct{}

	mu    sync.Mutex
	waits map[[2]string]*wait // by instance and hook
}

type wait struct {
	Message
	begun, beat time.Time
	others      map[string]*sighting // masters that may still hold the key; see forgotten
}

// NewHooks makes Hooks that tend nothing yet. gone says whether this master holds
// no key of a minion any more.
func NewHooks(cfg Config, store fleet.Store, api Lifecycle, gone func(minionID string) (bool, error), log *slog.Logger) (*Hooks, error) {
	if store == nil || api == nil || gone == nil || log == nil {
		return nil, errors.New("tend hooks: a part is missing")
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("tend hooks: %w", err)
	}
	return &Hooks{cfg: cfg, store: store, api: api, gone: gone, log: log,
		wake: make(chan struct{}, 1), waits: map[[2]string]*wait{}}, nil
}

// Tend takes a hook in, whose instance's row is written.
func (h *Hooks) Tend(m Message) {
	key := [2]string{m.InstanceID, m.Hook}
	h.mu.Lock()
	if old := h.waits[key]; old == nil || old.Kind != m.Kind {
		now := time.Now()
		h.waits[key] = &wait{Message: m, begun: now, beat: now}
	}
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Waiting says how many instances wait.
func (h *Hooks) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waits)
}

// Proceed ends a hook that waits for nothing of ours.
func (h *Hooks) Proceed(ctx context.Context, m Message) error { return h.complete(ctx, m, goOn) }

// Run tends hooks until ctx ends, and then has one last look: an instance whose
// highstate has just been recorded need not wait for another master.
func (h *Hooks) Run(ctx context.Context) error {
	for {
		var tick <-chan time.Time
		if h.Waiting() > 0 {
			tick = time.After(lookEvery)
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), completeWithin)
			defer cancel()
			h.look(last)
			return nil
		case <-h.wake:
		case <-tick:
		}
		h.look(ctx)
	}
}

// look reads the rows of all that wait, and does what follows.
func (h *Hooks) look(ctx context.Context) {
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
	if _, err = fleet.WithoutBadRows(err); err != nil { // a hook whose row is bad waits
		h.log.Warn("lifecycle hooks wait for the store", "waiting", len(waits), "err", err)
		return
	}
	var living map[string]fleet.Master
	if slices.ContainsFunc(waits, func(w *wait) bool { return h.asksMasters(w, rows[w.InstanceID]) }) {
		if living, err = h.living(ctx); err != nil {
			h.log.Warn("lifecycle hooks wait for the store", "waiting", len(waits), "err", err)
			return
		}
	}
	for _, w := range waits {
		row := rows[w.InstanceID]
		if h.isNewMaster(w) {
			h.do(ctx, w, nextOfMaster(w, row, living[w.InstanceID].Ready))
			continue
		}
		gone := false
		if w.Kind == Ended && row.Status == fleet.Terminate {
			if gone, err = h.gone(row.Salt()); err != nil {
				h.log.Warn("key of a terminating instance not looked up", "instance", w.InstanceID, "err", err)
			}
			gone = w.forgotten(h.others(living), time.Now()) && gone
		}
		h.do(ctx, w, h.next(w, row, gone))
	}
}

// step is what to do about a hook that waits.
type step string

const (
	stay    step = "stay"    // look again
	beat    step = "beat"    // look again, and say that it takes longer
	proceed step = "proceed" // CONTINUE
	abandon step = "abandon" // ABANDON: the instance is terminated and replaced
	drop    step = "drop"    // not ours any more
)

// next decides; time has no part in it but as a bound. An instance without a row
// has the zero row, for which nothing is ended: it was not recorded.
func (h *Hooks) next(w *wait, row fleet.Minion, keyGone bool) step {
	waited := time.Since(w.begun)
	switch {
	case waited > tendFor:
		return drop
	case w.Kind == Ended && row.Status != fleet.Terminate:
		return stay
	case w.Kind == Ended && (keyGone || waited >= keyWithin):
		return proceed
	case w.Kind == Ended:
		return beat
	case row.Status == fleet.Terminate:
		return drop
	case row.HighstateRan || row.Adopted() || h.cfg.Attempts == 0 && row.KeySHA256 != "":
		return proceed
	case h.cfg.Attempts > 0 && row.ClaimState == fleet.Failed && row.Attempt >= h.cfg.Attempts:
		return abandon
	case row.KeySHA256 != "":
		return beat
	}
	return stay // it never knocked: how long to wait for that, the hook's own timeout says
}

func (h *Hooks) do(ctx context.Context, w *wait, s step) {
	switch s {
	case stay:
	case beat:
		if time.Since(w.beat) < beatEvery {
			return
		}
		w.beat = time.Now()
		if err := h.heartbeat(ctx, w.Message); err != nil {
			h.log.Warn("lifecycle hook not prolonged", "instance", w.InstanceID, "hook", w.Hook, "err", withHint(err))
		}
	case drop:
		h.forget(w)
	case proceed, abandon:
		result := goOn
		if s == abandon {
			result = giveUp
		}
		if err := h.complete(ctx, w.Message, result); err != nil {
			h.log.Warn("lifecycle hook not ended", "instance", w.InstanceID, "hook", w.Hook, "result", result, "err", withHint(err))
			return
		}
		h.forget(w)
	}
}

func (h *Hooks) forget(w *wait) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if key := [2]string{w.InstanceID, w.Hook}; h.waits[key] == w {
		delete(h.waits, key)
	}
}

// complete ends a hook, on a context of its own: what is so stays so while the
// bridge stops.
func (h *Hooks) complete(ctx context.Context, m Message, result string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), completeWithin)
	defer cancel()
	_, err := h.api.CompleteLifecycleAction(ctx, &autoscaling.CompleteLifecycleActionInput{
		AutoScalingGroupName: &m.Group, LifecycleHookName: &m.Hook, InstanceId: &m.InstanceID,
		LifecycleActionResult: aws.String(result),
	})
	if over(err) {
		h.log.Info("lifecycle hook was over", "instance", m.InstanceID, "hook", m.Hook, "said", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("complete lifecycle action: %w", err)
	}
	h.log.Info("lifecycle hook ended", "instance", m.InstanceID, "group", m.Group, "hook", m.Hook, "result", result)
	return nil
}

func (h *Hooks) heartbeat(ctx context.Context, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	_, err := h.api.RecordLifecycleActionHeartbeat(ctx, &autoscaling.RecordLifecycleActionHeartbeatInput{
		AutoScalingGroupName: &m.Group, LifecycleHookName: &m.Hook, InstanceId: &m.InstanceID,
	})
	if over(err) {
		return nil // the row says when to forget it
	}
	return err
}

// over says whether AutoScaling knows no such action any more.
func over(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "ValidationError"
}
