package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// carryOut writes what the plan says. What the store says no to, row by row, is in
// bad; an error is the store's as a whole.
func (r *Reconciler) carryOut(ctx context.Context, p plan, masters map[string]bool) (bad map[string]error, err error) {
	bad = map[string]error{}
	rows, err := write(ctx, r.store, p.adds, bad)
	r.cfg.changed(rows)
	if err != nil {
		return bad, err
	}
	for _, c := range p.adds {
		add := c.(fleet.Add)
		if bad[add.InstanceID] == nil {
			r.log.Info("instance found without a message of its launch", "instance", add.InstanceID, "group", add.Group,
				"adopted", add.Adopted)
		}
	}
	rows, err = retireEach(ctx, r.store, p.retire, masters, true, bad)
	r.cfg.changed(rows)
	if err != nil {
		return bad, err
	}
	for _, id := range p.retire {
		if bad[id] == nil {
			r.log.Warn("instance terminated without a message", "instance", id)
		}
	}
	r.tend(ctx, p, masters)
	return bad, nil
}

// tend takes up the instances that wait in a configured hook: the message of it may have
// been lost, or its master is gone. A master that its group terminates drains.
func (r *Reconciler) tend(ctx context.Context, p plan, masters map[string]bool) {
	for _, m := range p.tend {
		hooks, _ := r.hooks.configured(ctx, m.Group) // it logs its own fault
		for _, k := range hooks {
			if k.of != m.Kind {
				continue
			}
			role, _ := r.cfg.role(Item{}, m.Group)
			if masters[m.InstanceID] { // the group may be named without its role
				role = Masters
			}
			m.Hook = k.name
			leaves := m.Kind == Ended && masters[m.InstanceID]
			if leaves {
				if err := r.store.DrainMaster(ctx, m.InstanceID, true); err != nil &&
					!errors.Is(err, fleet.ErrTerminated) {
					r.log.Warn("master not drained, although its group terminates it", "instance",
						m.InstanceID, "err", err)
					leaves = false
				}
			}
			if news := r.hooks.Tend(m, role); news && leaves {
				r.cfg.decided(r.log, "master drained: its group terminates it", m.InstanceID, "group", m.Group,
					"hook", m.Hook)
			}
		}
	}
}

// retire ends instances in each table that has them.
func retire(ctx context.Context, store fleet.Store, ids []string, masters map[string]bool,
	inferred bool) ([]fleet.Minion, error) {
	bad := map[string]error{}
	rows, err := retireEach(ctx, store, ids, masters, inferred, bad)
	errs := []error{err}
	for _, id := range slices.Sorted(maps.Keys(bad)) {
		errs = append(errs, bad[id])
	}
	return rows, errors.Join(errs...)
}

// retireEach does so one by one: what the store says no to is put into bad. An error
// is the store's as a whole.
func retireEach(ctx context.Context, store fleet.Store, ids []string, masters map[string]bool, inferred bool,
	bad map[string]error) ([]fleet.Minion, error) {
	changes := make([]fleet.Change, 0, len(ids))
	for _, id := range ids {
		if masters[id] {
			err := store.RetireMaster(ctx, id)
			if errors.Is(err, fleet.ErrUnavailable) || ctx.Err() != nil {
				return nil, fmt.Errorf("retire master: %w", err)
			}
			if err != nil {
				bad[id] = fmt.Errorf("retire master: %w", err)
				continue
			}
		}
		changes = append(changes, fleet.Retire{InstanceID: id, Inferred: inferred})
	}
	return write(ctx, store, changes, bad)
}

// write applies changes, each by itself.
func write(ctx context.Context, store fleet.Store, changes []fleet.Change,
	bad map[string]error) (changed []fleet.Minion, err error) {
	for chunk := range slices.Chunk(changes, applyAtOnce) {
		results, err := store.Apply(ctx, chunk)
		if err != nil {
			return changed, fmt.Errorf("write %s: %w", plural.Of(len(chunk), "instance"), err)
		}
		for i, result := range results {
			id := chunk[i].Instance()
			if result.Err != nil && !errors.Is(result.Err, fleet.ErrTerminated) { // a message came first
				bad[id] = fmt.Errorf("write %s: %w", id, result.Err)
				continue
			}
			changed = append(changed, result.Row)
		}
	}
	return changed, nil
}

// shown is as many ids as a line of the log can hold.
const shown = 20

// complain reports to the operator what needs one, once, and again when it changes.
func (r *Reconciler) complain() {
	held := slices.Sorted(maps.Keys(r.memory.held))
	switch {
	case len(held) > 0:
		r.say(slog.LevelError, "terminations are held: too many at once; if they are right, phoenix minions retire --held",
			"count", len(held), "instances", some(held))
	case len(r.report.Missing) > 0:
		r.say(slog.LevelError, "AutoScaling does not know groups: see autoscaling.groups, the region and the account",
			"groups", r.report.Missing)
	case len(r.report.Unknown) > 0:
		r.say(slog.LevelWarn, "EC2 does not know instances of the fleet: another region or account, or they ended long ago (phoenix minions retire ID)",
			"count", len(r.report.Unknown), "instances", some(r.report.Unknown))
	case len(r.report.Revived) > 0:
		r.say(slog.LevelWarn, "instances are in service, though the fleet calls them terminated, for good",
			"count", len(r.report.Revived), "instances", some(r.report.Revived))
	case len(r.report.Bad) > 0:
		r.say(slog.LevelError, "rows of the fleet are passed over: they cannot be read or written",
			"count", len(r.report.Bad), "instances", some(r.report.Bad), "err", r.why)
	default:
		r.say(slog.LevelInfo, "fleet and AutoScaling agree")
	}
}

func (r *Reconciler) say(level slog.Level, text string, args ...any) {
	if line := fmt.Sprint(append([]any{text}, args...)...); line != r.warned {
		r.warned = line
		r.log.Log(context.Background(), level, text, args...)
	}
}

func some(ids []string) []string {
	if len(ids) > shown {
		return append(slices.Clone(ids[:shown]), "…")
	}
	return ids
}
