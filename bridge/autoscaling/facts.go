package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// found is what a pass has found out, and what it has not.
type found struct {
	facts
	missing []string         // groups that AutoScaling does not know
	unread  map[string]error // rows that cannot be read
	ec2     error            // why EC2 did not answer
}

// pass over rows that cannot be read; what is left of the error is the store's.
func (f *found) passOver(err error) error {
	bad, err := fleet.WithoutBadRows(err)
	for id, why := range bad {
		f.unread[id], f.bad[id] = why, true
	}
	return err
}

// find gathers the facts.
func (r *Reconciler) find(ctx context.Context, m memory) (f found, err error) {
	f = found{facts: facts{rows: map[string]fleet.Minion{}, bad: map[string]bool{}}, unread: map[string]error{}}
	if f.members, f.missing, err = r.members(ctx); err != nil {
		return f, err
	}
	err = r.store.ByStatus(ctx, fleet.Launch, "", func(page []fleet.Minion) error {
		for _, row := range page {
			row.PublicKey = "" // half of a row, and nothing here needs it
			f.rows[row.InstanceID] = row
		}
		return nil
	})
	if err = f.passOver(err); err != nil {
		return f, fmt.Errorf("list minions: %w", err)
	}
	// Members that the listing lacks: without a row, terminated, or written since.
	var others []string
	for id := range f.members {
		if _, found := f.rows[id]; !found {
			others = append(others, id)
		}
	}
	for chunk := range slices.Chunk(others, applyAtOnce) {
		rows, err := r.store.Minions(ctx, chunk)
		if err = f.passOver(err); err != nil {
			return f, fmt.Errorf("look up %s: %w", plural.Of(len(chunk), "instance"), err)
		}
		maps.Copy(f.rows, rows)
	}
	var bad map[string]error
	if f.masters, bad, err = r.masters(ctx); err != nil {
		return f, err
	}
	for id, why := range bad {
		f.unread[id], f.bad[id] = why, true
	}
	if f.since, err = r.store.Since(ctx); err != nil {
		return f, err
	}
	ids := f.ask()
	if f.instances, f.ec2 = describe(ctx, r.ec2, ids); f.ec2 != nil {
		f.away = true
		return f, nil
	}
	if slices.ContainsFunc(ids, func(id string) bool { return m.gone[id] }) {
		f.inferred, err = r.inferred(ctx)
	}
	return f, err
}

// members asks for the named groups, and says which of them are not there.
func (r *Reconciler) members(ctx context.Context) (map[string]member, []string, error) {
	members, missing := map[string]member{}, map[string]bool{}
	for _, g := range r.cfg.Groups {
		missing[g.Name] = true
	}
	for names := range slices.Chunk(slices.Sorted(maps.Keys(missing)), groupsAtOnce) {
		p := autoscaling.NewDescribeAutoScalingGroupsPaginator(r.groups,
			&autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: names,
				MaxRecords: aws.Int32(groupsAtOnce)})
		for pages := 1; p.HasMorePages(); pages++ {
			out, err := groupPage(ctx, p)
			if err == nil && pages > groupPages {
				err = errors.New("pages without end")
			}
			if err != nil {
				return nil, nil, fmt.Errorf("describe groups: %w", err)
			}
			for _, g := range out.AutoScalingGroups {
				name := aws.ToString(g.AutoScalingGroupName)
				delete(missing, name)
				pool := g.WarmPoolConfiguration
				reuses := pool != nil && pool.InstanceReusePolicy != nil &&
					aws.ToBool(pool.InstanceReusePolicy.ReuseOnScaleIn)
				for _, i := range g.Instances {
					if id := aws.ToString(i.InstanceId); instanceID.MatchString(id) {
						members[id] = member{name, string(i.LifecycleState), reuses}
					}
				}
			}
		}
	}
	return members, slices.Sorted(maps.Keys(missing)), nil
}

func groupPage(ctx context.Context,
	p *autoscaling.DescribeAutoScalingGroupsPaginator) (*autoscaling.DescribeAutoScalingGroupsOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	return p.NextPage(ctx)
}

// masters returns the masters whose rows say LAUNCH, and those whose rows cannot be read.
func (r *Reconciler) masters(ctx context.Context) (map[string]bool, map[string]error, error) {
	rows, bad, err := mastersOf(ctx, r.store)
	masters := map[string]bool{}
	for id, m := range rows {
		if m.Status == fleet.Launch {
			masters[id] = true
		}
	}
	return masters, bad, err
}

// inferred counts the terminations that any master inferred lately: the termination limit is
// one for all, and holds over a restart.
func (r *Reconciler) inferred(ctx context.Context) (n int, err error) {
	now := time.Now()
	err = r.store.ByStatus(ctx, fleet.Terminate, fleet.FormatTime(now.Add(-limitWindow)),
		func(page []fleet.Minion) error {
			for _, row := range page {
				if row.Inferred && endedLately(row, now) {
					n++
				}
			}
			return nil
		})
	if _, err = fleet.WithoutBadRows(err); err != nil {
		return 0, fmt.Errorf("list terminated minions: %w", err)
	}
	return n, nil
}
