package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"phoenix/bridge/fleet"
)

// carryOut writes what the plan says.
func (r *Reconciler) carryOut(ctx context.Context, p plan, masters map[string]bool) error {
	if err := r.write(ctx, p.adds); err != nil {
		return err
	}
	for _, c := range p.adds {
		add := c.(fleet.Add)
		r.log.Info("instance found that no message told of", "instance", add.InstanceID, "group", add.Group, "adopted", add.Adopted)
	}
	if err := r.retire(ctx, p.retire, masters, true); err != nil {
		return err
	}
	for _, id := range p.retire {
		r.log.Warn("instance ended, and no message told of it", "instance", id)
	}
	for _, m := range p.tend {
		r.hooks.Tend(m)
	}
	return nil
}

// retire ends instances in each table that has them.
func (r *Reconciler) retire(ctx context.Context, ids []string, masters map[string]bool, inferred bool) error {
	changes := make([]fleet.Change, 0, len(ids))
	for _, id := range ids {
		if masters[id] {
			if err := r.store.RetireMaster(ctx, id); err != nil {
				return fmt.Errorf("retire master: %w", err)
			}
		}
		changes = append(changes, fleet.Retire{InstanceID: id, Inferred: inferred})
	}
	return r.write(ctx, changes)
}

func (r *Reconciler) write(ctx context.Context, changes []fleet.Change) error {
	var errs []error
	var changed []fleet.Minion
	for chunk := range slices.Chunk(changes, applyAtOnce) {
		results, err := r.store.Apply(ctx, chunk)
		if err != nil {
			return fmt.Errorf("write %d instances: %w", len(chunk), err)
		}
		for i, result := range results {
			id := chunk[i].Instance()
			if result.Err != nil && !errors.Is(result.Err, fleet.ErrTerminated) { // a message came first
				errs = append(errs, fmt.Errorf("write %s: %w", id, result.Err))
				continue
			}
			changed = append(changed, result.Row)
		}
	}
	r.cfg.told(changed)
	return errors.Join(errs...)
}

// shown is as many ids as a line of the log bears.
const shown = 20

// complain tells the operator what needs one, once, and anew when it changes.
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
	default:
		r.say(slog.LevelInfo, "fleet and AutoScaling agree")
	}
}

func (r *Reconciler) say(level slog.Level, text string, args ...any) {
	if line := fmt.Sprint(append([]any{text}, args...)...); line != r.told {
		r.told = line
		r.log.Log(context.Background(), level, text, args...)
	}
}

func some(ids []string) []string {
	if len(ids) > shown {
		return append(slices.Clone(ids[:shown]), "…")
	}
	return ids
}
