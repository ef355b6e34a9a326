package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/retry"
)

// ListHighstates is the request of Highstates.
type ListHighstates struct {
	All     bool `json:"all"`     // those that are done, too
	Adopted bool `json:"adopted"` // adopted minions, too, of which none is wanted
}

// Highstate is a minion's row, and how far its first highstate is.
type Highstate struct {
	fleet.Minion
	Why string `json:"why"`
}

// Highstates returns the minions whose first highstate is wanted, runs or failed, and why
// it is not done: in the words of the bridge on this machine about those that it works on
// and reports, a hundred at most.
func (a Admin) Highstates(ctx context.Context, r ListHighstates) ([]Highstate, error) {
	all, err := a.minions(ctx, fleet.Launch)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return nil, err
	}
	breaker, err := a.breaker(ctx)
	if err != nil {
		return nil, err
	}
	report, noBridge := a.bridge(ctx)
	words, rows, adopted := wordsOf(report), []Highstate{}, 0
	for _, row := range all {
		isAdopted := decide.PhaseOf(row, true, false) == decide.PhaseAdopted
		if isAdopted {
			adopted++
		}
		if row.WantsHighstate() || r.All && row.HighstateRan || r.Adopted && isAdopted {
			why := explainHighstate(words, breaker, decide.KeyView{ID: row.SaltID(), Known: true, Row: row})
			rows = append(rows, Highstate{row, why})
		}
	}
	if len(rows) == 0 && len(bad) == 0 {
		a.note("no first highstate is wanted, running or failed")
	}
	if noBridge != nil && slices.ContainsFunc(rows, func(h Highstate) bool { return h.WantsHighstate() }) {
		a.note("%s", a.describeNoBridge(noBridge))
	}
	if adopted > 0 && !r.Adopted {
		a.note("adopted minions left out, since no first highstate is wanted for them: %d (phoenix minions list --phase adopted, phoenix highstate run ID)", adopted)
	}
	return rows, fleet.BadRows(bad)
}

// RunHighstates is the request of RunHighstate.
type RunHighstates struct {
	IDs   []string `json:"ids"`
	Force bool     `json:"force"` // give up one that runs
}

// RunHighstate asks for a highstate of minions, and returns their rows.
func (a Admin) RunHighstate(ctx context.Context, r RunHighstates) ([]fleet.Minion, error) {
	if err := a.checkIDs(r.IDs); err != nil {
		return nil, err
	}
	instances, err := a.resolveInstances(ctx, r.IDs)
	if err != nil {
		return nil, fmt.Errorf("ask for highstates: %w", err)
	}
	changes := make([]fleet.Change, len(r.IDs))
	for i, id := range r.IDs {
		changes[i] = fleet.Rerun{InstanceID: instances[id], Force: r.Force}
	}
	if b, err := a.breaker(ctx); err == nil && b != nil && b.Open {
		a.note("the circuit breaker is open: these begin nevertheless, others wait for phoenix highstate resume")
	}
	return a.apply(ctx, "ask for highstates", "highstate asked for", changes)
}

// awaited marks an error as ErrAwaited.
type awaited struct{ error }

func (awaited) Is(target error) bool { return target == ErrAwaited }

// pollHighstates is how often rows are read while somebody waits.
const pollHighstates = time.Second

// highstateEnded reports whether the bridges do nothing more by themselves for a highstate. After a
// failed attempt they try again, highstate.attempts times in all.
func (a Admin) highstateEnded(row fleet.Minion) bool {
	switch decide.PhaseOf(row, true, false) {
	case decide.PhaseDone, decide.PhaseTerminated:
		return true
	case decide.PhaseFailed:
		return row.Attempt >= a.Config.Highstate.Attempts
	}
	return false
}

// AwaitHighstates waits until the highstates of ids have ended, with all their attempts,
// for at most wait. It calls changed, if not nil, with the row of each id whose phase or
// attempt is another than before.
func (a Admin) AwaitHighstates(ctx context.Context, ids []string, wait time.Duration,
	changed func(id string, row fleet.Minion)) error {
	instances, err := a.resolveInstances(ctx, ids)
	if err != nil {
		return fmt.Errorf("await highstates: %w", err)
	}
	deadline := time.Now().Add(wait)
	type standing struct {
		phase   decide.Phase
		attempt int
	}
	last := map[string]standing{}
	for {
		rows, err := a.Store.Minions(ctx, slices.Collect(maps.Values(instances)))
		bad, err := fleet.WithoutBadRows(err)
		if err != nil {
			return fmt.Errorf("await highstates: %w", err)
		}
		open, failed := 0, 0
		for _, id := range ids {
			if bad[instances[id]] != nil { // no other waits for it
				failed++
				continue
			}
			row := rows[instances[id]]
			now := standing{decide.PhaseOf(row, true, false), row.Attempt}
			if changed != nil && last[id] != now {
				changed(id, row)
				last[id] = now
			}
			switch {
			case !a.highstateEnded(row):
				open++
			case now.phase != decide.PhaseDone:
				failed++
			}
		}
		switch {
		case open == 0 && failed > 0:
			return fmt.Errorf("%d of %d highstates failed (phoenix highstate list)", failed, len(ids))
		case open == 0:
			return nil
		case time.Now().After(deadline):
			return awaited{fmt.Errorf("%d of %d highstates have not ended within %v (phoenix highstate list)", open,
				len(ids), wait)}
		}
		if !retry.Sleep(ctx, pollHighstates) {
			return ctx.Err()
		}
	}
}
