package fleettest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"phoenix/bridge/fleet"
)

// Fault is what happens to one call. The zero Fault lets it pass.
type Fault struct {
	Delay  time.Duration // before anything else; ends with the context
	Before error         // instead of the call: no effect
	Twice  bool          // the call is carried out a second time (writes only), as by a retry below
	After  error         // instead of the answer: the effect is there
}

// Call is one call of a store.
type Call struct {
	N       int    // from 0
	Method  string // of fleet.Store
	Changes []fleet.Change
}

// Plan decides on each call. Calls come one at a time.
type Plan func(Call) Fault

// Rates are the shares of calls, from 0 to 1, that a fault befalls.
type Rates struct {
	Before, After, Twice, Delay float64
	MaxDelay                    time.Duration
}

// Seeded is a Plan that depends on nothing but the seed and the order of calls.
func Seeded(seed uint64, r Rates) Plan {
	rng := rand.New(rand.NewPCG(seed, 0))
	return func(c Call) Fault {
		var f Fault
		// Always the same draws, so that one rate does not shift the others.
		before, after, twice, delay, long := rng.Float64(), rng.Float64(), rng.Float64(), rng.Float64(), rng.Float64()
		if before < r.Before {
			f.Before = fmt.Errorf("injected before call %d of %s: %w", c.N, c.Method, fleet.ErrUnavailable)
		}
		if after < r.After {
			f.After = fmt.Errorf("injected after call %d of %s: %w", c.N, c.Method, fleet.ErrUnavailable)
		}
		f.Twice = twice < r.Twice
		if delay < r.Delay {
			f.Delay = time.Duration(long * float64(r.MaxDelay))
		}
		return f
	}
}

// Faulty is a real store to which faults happen.
type Faulty struct {
	fleet.Store
	mu    sync.Mutex
	plan  Plan
	calls int
}

// NewFaulty wraps s. Close and Since pass untouched.
func NewFaulty(s fleet.Store, plan Plan) *Faulty { return &Faulty{Store: s, plan: plan} }

func (f *Faulty) next(method string, changes []fleet.Change) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault := f.plan(Call{f.calls, method, changes})
	f.calls++
	return fault
}

// suffer carries out call under the fault that the plan has for it.
func suffer[T any](ctx context.Context, f *Faulty, method string, changes []fleet.Change, call func() (T, error)) (T, error) {
	var none T
	fault := f.next(method, changes)
	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return none, fmt.Errorf("%w: %w", fleet.ErrUnavailable, ctx.Err())
		}
	}
	if fault.Before != nil {
		return none, fault.Before
	}
	got, err := call()
	if fault.Twice && writes(method) {
		got, err = call()
	}
	if fault.After != nil {
		return none, fault.After
	}
	return got, err
}

func writes(method string) bool {
	return method == "Apply" || method == "Beat" || method == "RetireMaster" || method == "DrainMaster"
}

// Minion implements fleet.Store.
func (f *Faulty) Minion(ctx context.Context, id string) (fleet.Minion, error) {
	return suffer(ctx, f, "Minion", nil, func() (fleet.Minion, error) { return f.Store.Minion(ctx, id) })
}

// Minions implements fleet.Store.
func (f *Faulty) Minions(ctx context.Context, ids []string) (map[string]fleet.Minion, error) {
	return suffer(ctx, f, "Minions", nil, func() (map[string]fleet.Minion, error) { return f.Store.Minions(ctx, ids) })
}

// Apply implements fleet.Store.
func (f *Faulty) Apply(ctx context.Context, changes []fleet.Change) ([]fleet.Result, error) {
	return suffer(ctx, f, "Apply", changes, func() ([]fleet.Result, error) { return f.Store.Apply(ctx, changes) })
}

// ByStatus implements fleet.Store. After means that the last page was lost.
func (f *Faulty) ByStatus(ctx context.Context, status fleet.Status, since string, fn func([]fleet.Minion) error) error {
	_, err := suffer(ctx, f, "ByStatus", nil, func() (struct{}, error) {
		return struct{}{}, f.Store.ByStatus(ctx, status, since, fn)
	})
	return err
}

// Masters implements fleet.Store.
func (f *Faulty) Masters(ctx context.Context) ([]fleet.Master, error) {
	return suffer(ctx, f, "Masters", nil, func() ([]fleet.Master, error) { return f.Store.Masters(ctx) })
}

// Beat implements fleet.Store.
func (f *Faulty) Beat(ctx context.Context, b fleet.Beat) (fleet.Master, error) {
	return suffer(ctx, f, "Beat", nil, func() (fleet.Master, error) { return f.Store.Beat(ctx, b) })
}

// RetireMaster implements fleet.Store.
func (f *Faulty) RetireMaster(ctx context.Context, id string) error {
	_, err := suffer(ctx, f, "RetireMaster", nil, func() (struct{}, error) { return struct{}{}, f.Store.RetireMaster(ctx, id) })
	return err
}

// DrainMaster implements fleet.Store.
func (f *Faulty) DrainMaster(ctx context.Context, id string, draining bool) error {
	_, err := suffer(ctx, f, "DrainMaster", nil, func() (struct{}, error) { return struct{}{}, f.Store.DrainMaster(ctx, id, draining) })
	return err
}

// Proofs implements fleet.Store.
func (f *Faulty) Proofs(ctx context.Context, arns []string) (map[string]string, error) {
	return suffer(ctx, f, "Proofs", nil, func() (map[string]string, error) { return f.Store.Proofs(ctx, arns) })
}
