package service

import (
	"context"
	"fmt"
	"slices"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// memory is the store that the bridges share: the changes of package fleet,
// applied to maps.
type memory struct {
	world   *world
	minions fleettest.Model
	index   map[string]indexed // by-status, where it lags
	masters map[string]fleet.Master
	breaker fleet.Breaker
}

// line is one bridge's connection to the store, over which faults come.
type line struct {
	*memory
	bridge *bridge
}

var _ fleet.Store = (*line)(nil)

func (l *line) Minion(ctx context.Context, id string) (fleet.Minion, error) {
	rows, err := l.Minions(ctx, []string{id})
	if row, found := rows[id]; found || err != nil {
		return row, err
	}
	return fleet.Minion{}, fleet.ErrNotFound
}

func (l *line) Minions(_ context.Context, ids []string) (rows map[string]fleet.Minion, err error) {
	err = l.bridge.call("read", true, fleet.ErrUnavailable, func() {
		rows = map[string]fleet.Minion{}
		for _, id := range ids {
			if row, found := l.minions[id]; found {
				rows[id] = row
			}
		}
	})
	return rows, err
}

func (l *line) Apply(_ context.Context, changes []fleet.Change) (results []fleet.Result, err error) {
	what := "write"
	for _, c := range changes {
		if l.world.traced {
			what += fmt.Sprintf(" %T%+v", c, short(c))
		}
	}
	err = l.bridge.call(what, true, fleet.ErrUnavailable, func() {
		results = l.apply(l.bridge, changes)
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// short leaves keys out of traces.
func short(c fleet.Change) fleet.Change {
	if b, ok := c.(fleet.Bind); ok {
		b.PublicKey, b.KeySHA256 = "", b.KeySHA256[:8]
		return b
	}
	return c
}

// indexed is a row as the index still has it.
type indexed struct {
	row   fleet.Minion
	until time.Duration
}

// byStatus is the row as the index has it.
func (s *memory) byStatus(id string) fleet.Minion {
	if old, lags := s.index[id]; lags && s.world.now < old.until {
		return old.row
	}
	return s.minions[id]
}

// message is one of AutoScaling's that some master's queue brings, or an admin's
// command: a write, of which that bridge hears at once, and the others do not.
func (w *world) message(c fleet.Change) {
	m := w.machines[w.rng.IntN(len(w.machines))]
	w.store.apply(&bridge{machine: m, incarnation: "queue of " + m.id}, []fleet.Change{c})
	if b := m.bridge; b != nil && w.chance(0.7) {
		b.inbox.Invalidate([]string{c.Instance()})
		b.poke()
	}
}

// apply writes, and takes note of what became of claims.
func (s *memory) apply(b *bridge, changes []fleet.Change) []fleet.Result {
	w := s.world
	var results []fleet.Result
	for _, c := range changes {
		before := s.minions[c.Instance()]
		r := s.minions.Apply(c)[0]
		if r.Err == nil && r.Row != before {
			// By the clock of its writer, and never back for one row: as sqlite does.
			r.Row.Modified = max(before.Modified, fleet.FormatTime(b.machine.clock.now()))
			s.minions[c.Instance()] = r.Row
			if w.peril(w.perils.lag) && s.byStatus(c.Instance()).InstanceID != "" {
				w.saw("index lags")
				if s.index == nil {
					s.index = map[string]indexed{}
				}
				s.index[c.Instance()] = indexed{before, w.now + w.about(30*time.Second)}
			}
		}
		w.history.Saw(r.Row)
		w.wrote(b, c, before, r)
		results = append(results, r)
	}
	return results
}

func (l *line) ByStatus(_ context.Context, status fleet.Status, since string, fn func([]fleet.Minion) error) error {
	var page []fleet.Minion
	err := l.bridge.call("list", true, fleet.ErrUnavailable, func() {
		for id := range l.minions {
			if row := l.byStatus(id); row.Status == status && row.Modified >= since {
				page = append(page, row)
			}
		}
	})
	if err != nil || len(page) == 0 {
		return err
	}
	slices.SortFunc(page, func(a, b fleet.Minion) int {
		if a.InstanceID < b.InstanceID {
			return -1
		}
		return 1
	})
	return fn(page)
}

func (l *line) Masters(context.Context) (rows []fleet.Master, err error) {
	err = l.bridge.call("masters", true, fleet.ErrUnavailable, func() {
		rows = make([]fleet.Master, 0, len(l.world.machines))
		for _, m := range l.world.machines {
			if row, found := l.masters[m.id]; found {
				rows = append(rows, row)
			}
		}
	})
	return rows, err
}

func (l *line) Beat(_ context.Context, b fleet.Beat) (row fleet.Master, err error) {
	var refused error
	err = l.bridge.call("beat", true, fleet.ErrUnavailable, func() {
		before, found := l.masters[b.InstanceID]
		if row, refused = b.Apply(before, found); refused == nil {
			l.masters[b.InstanceID] = row
		}
	})
	if err != nil {
		return fleet.Master{}, err
	}
	return row, refused
}

func (s *memory) RetireMaster(_ context.Context, id string) error {
	row := s.masters[id]
	row.InstanceID, row.Status = id, fleet.Terminate
	s.masters[id] = row
	return nil
}

func (s *memory) DrainMaster(_ context.Context, id string, draining bool) error {
	row := s.masters[id]
	row.Draining = draining
	s.masters[id] = row
	return nil
}

func (s *memory) Proofs(context.Context, []string) (map[string]fleet.Proof, error) { return nil, nil }

func (s *memory) Prune(context.Context) (int, error) { return 0, nil }

func (s *memory) Since(context.Context) (time.Time, error) { return epoch, nil }

func (s *memory) Close() error { return nil }
