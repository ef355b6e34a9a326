package fleettest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/retry"
)

// Fault is what happens to one call. The zero Fault lets it pass.
type Fault struct {
	Delay  time.Duration // before anything else; ends with the context
	Before error         // instead of the call: no effect
	Twice  bool          // the call is carried out a second time (writes only), as by a retry below
	After  error         // instead of the answer: the effect is there
	Bad    []string      // rows that the call cannot decode: not read, not written
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

// suffer carries out call under the fault that the plan has for it. call is given
// the rows that it cannot decode.
func suffer[T any](ctx context.Context, f *Faulty, method string, changes []fleet.Change,
	call func(bad badRows) (T, error)) (T, error) {
	var none T
	fault := f.next(method, changes)
	if fault.Delay > 0 && !retry.Sleep(ctx, fault.Delay) {
		return none, fmt.Errorf("%w: %w", fleet.ErrUnavailable, ctx.Err())
	}
	if fault.Before != nil {
		return none, fault.Before
	}
	bad := badRows{}
	for _, id := range fault.Bad {
		bad[id] = fmt.Errorf("injected: row %s: %w", id, fleet.ErrCorrupt)
	}
	got, err := call(bad)
	if fault.Twice && writes(method) {
		got, err = call(bad)
	}
	if fault.After != nil {
		return none, fault.After
	}
	return got, err
}

// badRows says what is wrong with rows, by id.
type badRows map[string]error

// join adds those of bad that are among the rows which were asked for.
func (bad badRows) join(err error, met func(id string) bool) error {
	found, rest := fleet.WithoutBadRows(err)
	if rest != nil {
		return rest
	}
	all := maps.Clone(found)
	for id, why := range bad {
		if met(id) {
			if all == nil {
				all = map[string]error{}
			}
			all[id] = why
		}
	}
	return fleet.BadRows(all)
}

func writes(method string) bool {
	return slices.Contains([]string{"Apply", "Beat", "RetireMaster", "DrainMaster", "Prune"}, method)
}

// Minion implements fleet.Store.
func (f *Faulty) Minion(ctx context.Context, id string) (fleet.Minion, error) {
	return suffer(ctx, f, "Minion", nil, func(bad badRows) (fleet.Minion, error) {
		if bad[id] != nil {
			return fleet.Minion{}, bad[id]
		}
		return f.Store.Minion(ctx, id)
	})
}

// Minions implements fleet.Store.
func (f *Faulty) Minions(ctx context.Context, ids []string) (map[string]fleet.Minion, error) {
	return suffer(ctx, f, "Minions", nil, func(bad badRows) (map[string]fleet.Minion, error) {
		rows, err := f.Store.Minions(ctx, ids)
		maps.DeleteFunc(rows, func(id string, _ fleet.Minion) bool { return bad[id] != nil })
		return rows, bad.join(err, func(id string) bool { return slices.Contains(ids, id) })
	})
}

// Apply implements fleet.Store.
func (f *Faulty) Apply(ctx context.Context, changes []fleet.Change) ([]fleet.Result, error) {
	return suffer(ctx, f, "Apply", changes, func(bad badRows) ([]fleet.Result, error) {
		var good []fleet.Change
		for _, c := range changes {
			if bad[c.Instance()] == nil {
				good = append(good, c)
			}
		}
		done, err := f.Store.Apply(ctx, good)
		if err != nil {
			return nil, err
		}
		results := make([]fleet.Result, len(changes))
		for i, c := range changes {
			if why := bad[c.Instance()]; why != nil {
				results[i].Err = why
			} else {
				results[i], done = done[0], done[1:]
			}
		}
		return results, nil
	})
}

// ByStatus implements fleet.Store. After means that the last page was lost.
func (f *Faulty) ByStatus(ctx context.Context, status fleet.Status, since string, fn func([]fleet.Minion) error) error {
	_, err := suffer(ctx, f, "ByStatus", nil, func(bad badRows) (struct{}, error) {
		met := map[string]bool{}
		err := f.Store.ByStatus(ctx, status, since, func(page []fleet.Minion) error {
			page = slices.DeleteFunc(page, func(row fleet.Minion) bool {
				met[row.InstanceID] = true
				return bad[row.InstanceID] != nil
			})
			if len(page) == 0 {
				return nil
			}
			return fn(page)
		})
		return struct{}{}, bad.join(err, func(id string) bool { return met[id] })
	})
	return err
}

// Masters implements fleet.Store.
func (f *Faulty) Masters(ctx context.Context) ([]fleet.Master, error) {
	return suffer(ctx, f, "Masters", nil, func(bad badRows) ([]fleet.Master, error) {
		met := map[string]bool{}
		masters, err := f.Store.Masters(ctx)
		masters = slices.DeleteFunc(masters, func(row fleet.Master) bool {
			met[row.InstanceID] = true
			return bad[row.InstanceID] != nil
		})
		return masters, bad.join(err, func(id string) bool { return met[id] })
	})
}

// Beat implements fleet.Store.
func (f *Faulty) Beat(ctx context.Context, b fleet.Beat) (fleet.Master, error) {
	return suffer(ctx, f, "Beat", nil, func(badRows) (fleet.Master, error) { return f.Store.Beat(ctx, b) })
}

// RetireMaster implements fleet.Store.
func (f *Faulty) RetireMaster(ctx context.Context, id string) error {
	_, err := suffer(ctx, f, "RetireMaster", nil,
		func(badRows) (struct{}, error) { return struct{}{}, f.Store.RetireMaster(ctx, id) })
	return err
}

// DrainMaster implements fleet.Store.
func (f *Faulty) DrainMaster(ctx context.Context, id string, draining bool) error {
	_, err := suffer(ctx, f, "DrainMaster", nil, func(badRows) (struct{}, error) {
		return struct{}{}, f.Store.DrainMaster(ctx, id, draining)
	})
	return err
}

// Prune implements fleet.Store.
func (f *Faulty) Prune(ctx context.Context) (int, error) {
	return suffer(ctx, f, "Prune", nil, func(badRows) (int, error) { return f.Store.Prune(ctx) })
}

// Proofs implements fleet.Store. Those of Bad are left out, as a store leaves out
// what is no proof.
func (f *Faulty) Proofs(ctx context.Context, arns []string) (map[string]fleet.Proof, error) {
	return suffer(ctx, f, "Proofs", nil, func(bad badRows) (map[string]fleet.Proof, error) {
		proofs, err := f.Store.Proofs(ctx, arns)
		maps.DeleteFunc(proofs, func(arn string, _ fleet.Proof) bool { return bad[arn] != nil })
		return proofs, err
	})
}
