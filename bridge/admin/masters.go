package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/retry"
)

// Masters returns the masters of the fleet.
func (a Admin) Masters(ctx context.Context) ([]fleet.Master, error) {
	masters, err := a.Store.Masters(ctx)
	if masters == nil {
		masters = []fleet.Master{} // [] in JSON, not null
	}
	if _, rest := fleet.WithoutBadRows(err); rest != nil {
		return nil, rest
	}
	return masters, err
}

// Serving returns the masters that minions can be connected to, as far as their rows
// say.
func Serving(masters []fleet.Master, lease time.Duration, now time.Time) []fleet.Master {
	var found []fleet.Master
	for _, m := range masters {
		if m.Status == fleet.Launch && m.Ready && !Stale(m, lease, now) {
			found = append(found, m)
		}
	}
	return found
}

// Stale reports whether a master's row was not written for a lease, by this host's clock.
func Stale(m fleet.Master, lease time.Duration, now time.Time) bool {
	at, err := fleet.ParseTime(m.Modified)
	return err == nil && now.Sub(at) > lease
}

// Late reports whether a master's row, which is not stale, was not written for lateAfter,
// by this host's clock: the master has died, or its row is about to be written.
func Late(m fleet.Master, lease time.Duration, now time.Time) bool {
	at, err := fleet.ParseTime(m.Modified)
	return err == nil && now.Sub(at) > lateAfter(lease)
}

// lateAfter is two beats and a margin, or two fifths of the lease if that is more: 12 s with
// the default lease of 30 s. A longer lease is for stores that answer slowly.
func lateAfter(lease time.Duration) time.Duration { return max(beatWithin, 2*lease/5) }

// Drained is the DrainState of a master without connected minions.
const Drained = "drained"

// DrainState is how far a master has come with draining: empty, "draining", or Drained
// once no minion is connected to it, as far as its row says.
func DrainState(m fleet.Master, lease time.Duration, now time.Time) string {
	switch {
	case m.Status != fleet.Launch || !m.Draining:
		return ""
	case m.Ready && m.Connected == 0 && !Stale(m, lease, now):
		return Drained
	}
	return "draining"
}

// ChangedMaster is what an operation made of a master's row.
type ChangedMaster struct {
	InstanceID string       `json:"instanceid"`
	Status     fleet.Status `json:"status"`
	Draining   bool         `json:"draining"`
}

// DrainMaster asks for a master's minions to move to the others, or ends that.
type DrainMaster struct {
	ID   string
	Undo bool
}

// drainedText is how the audit trail records that a master was drained.
const drainedText = "master drained"

// DrainMaster marks a master as draining, or ends its draining.
func (a Admin) DrainMaster(ctx context.Context, r DrainMaster) (ChangedMaster, error) {
	if err := a.Store.DrainMaster(ctx, r.ID, !r.Undo); err != nil {
		return ChangedMaster{}, fmt.Errorf("drain master %s: %w", r.ID, err)
	}
	what := drainedText
	if r.Undo {
		what = "draining of master ended"
	}
	a.Record(what, r.ID)
	return ChangedMaster{r.ID, fleet.Launch, !r.Undo}, nil
}

// RetireMaster asks for a master to be recorded as gone for good. Without Force another
// one must serve.
type RetireMaster struct {
	ID    string
	Force bool
}

// RetireMaster retires a master. It waits up to beatWithin until it has seen that another
// one serves.
func (a Admin) RetireMaster(ctx context.Context, r RetireMaster) (ChangedMaster, error) {
	masters, err := a.Store.Masters(ctx)
	if _, rest := fleet.WithoutBadRows(err); rest != nil {
		return ChangedMaster{}, rest
	}
	switch {
	case !slices.ContainsFunc(masters, func(m fleet.Master) bool { return m.InstanceID == r.ID }):
		return ChangedMaster{}, fmt.Errorf("retire master %s: %w", r.ID, fleet.ErrNotFound)
	case !r.Force:
		if err := AnotherServes(ctx, a.Store, r.ID, masters); err != nil {
			return ChangedMaster{}, fmt.Errorf("retire master %s: %w (--force to retire it all the same)", r.ID, err)
		}
	}
	if err := a.Store.RetireMaster(ctx, r.ID); err != nil {
		return ChangedMaster{}, fmt.Errorf("retire master %s: %w", r.ID, err)
	}
	a.Record("master retired", r.ID)
	return ChangedMaster{InstanceID: r.ID, Status: fleet.Terminate}, nil
}

const (
	// beatWithin: a bridge that runs beats every 5 s. One beat may be late.
	beatWithin = 12 * time.Second
	// beatCheckEvery is how often the masters are read until one has.
	beatCheckEvery = time.Second
)

// AnotherServes waits until the heartbeat of another master that minions may go to has
// changed: the row of a bridge that died continues to say ready. An error says why there
// is none.
func AnotherServes(ctx context.Context, store fleet.Store, id string, masters []fleet.Master) error {
	was := map[string]int64{}
	for _, m := range masters {
		if m.InstanceID != id && m.Status == fleet.Launch && m.Ready && !m.Draining {
			was[m.InstanceID] = m.Heartbeat
		}
	}
	if len(was) == 0 {
		return errors.New("no other master is ready")
	}
	for until := time.Now().Add(beatWithin); time.Now().Before(until); {
		if !retry.Sleep(ctx, beatCheckEvery) {
			return ctx.Err()
		}
		masters, err := store.Masters(ctx)
		if _, err := fleet.WithoutBadRows(err); err != nil {
			return err
		}
		for _, m := range masters {
			if heartbeat, was := was[m.InstanceID]; was && m.Heartbeat != heartbeat && m.Ready && !m.Draining &&
				m.Status == fleet.Launch {
				return nil
			}
		}
	}
	return fmt.Errorf("no other master is ready: none that says so was seen to beat within %v", beatWithin)
}
