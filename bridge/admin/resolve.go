package admin

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/awsenv"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

// resolveInstances returns the instance of each minion id, under which its row
// lies. With id_from that is EC2's answer for instances that live, or what the expression
// finds in the id; after it that of the rows, for instances that EC2 has forgotten; then
// the id itself, for machines that EC2 never knew, and for an instance's own id, which an
// administrator may give.
func (a Admin) resolveInstances(ctx context.Context, ids []string) (map[string]string, error) {
	out := make(map[string]string, len(ids))
	left := map[string]bool{}
	for _, id := range ids {
		if out[id] = id; a.Config.IDFrom != config.ByInstanceID {
			left[id] = true
		}
	}
	if len(left) == 0 {
		return out, nil
	}
	var api autoscaling.EC2
	if !autoscaling.ByExpression(a.Config.IDFrom) {
		loaded, err := awsenv.Load(ctx, a.Config)
		if err != nil {
			return nil, err
		}
		api = awsenv.EC2(loaded)
	}
	names, err := autoscaling.NewNames(a.Config.IDFrom, api, a.log())
	if err != nil {
		return nil, config.Invalid(fmt.Errorf("id_from: %w", err))
	}
	living, err := names.Instances(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("resolve minion ids: %w", err)
	}
	for id, instance := range living {
		out[id] = instance
		delete(left, id)
	}
	if len(left) == 0 {
		return out, nil
	}
	rows, err := a.minions(ctx)
	if _, err = fleet.WithoutBadRows(err); err != nil {
		return nil, err
	}
	for _, row := range rows { // those with status LAUNCH come first
		if left[row.MinionID] {
			out[row.MinionID] = row.InstanceID
			delete(left, row.MinionID)
		}
	}
	return out, nil
}

// otherName reports whether a row is bound to another id, which names the same instance;
// an administrator may give the instance's id, too.
func (a Admin) otherName(id string, row fleet.Minion) bool {
	return autoscaling.ByExpression(a.Config.IDFrom) && row.MinionID != "" && row.MinionID != id && row.InstanceID != id
}

// rowsOf reads the rows of minion ids, by these. If some cannot be decoded it
// returns the others, and an error that names those by their instances.
func (a Admin) rowsOf(ctx context.Context,
	ids []string) (instances map[string]string, rows map[string]fleet.Minion, err error) {
	if instances, err = a.resolveInstances(ctx, ids); err != nil {
		return nil, nil, err
	}
	done := a.progress("reading %d rows", len(ids))
	found, err := a.Store.Minions(ctx, slices.Collect(maps.Values(instances)))
	done()
	rows = make(map[string]fleet.Minion, len(found))
	for id, instance := range instances {
		if row, known := found[instance]; known && !a.otherName(id, row) {
			rows[id] = row
		}
	}
	return instances, rows, err
}

// instanceForm is the form of an instance's own id.
var instanceForm = regexp.MustCompile(config.IDPatternDynamoDB)

// minionID returns the minion id to write into a row: none where the administrator
// gave the instance's id and id_from says that the minion has another.
func (a Admin) minionID(id string) string {
	if a.Config.IDFrom != config.ByInstanceID && instanceForm.MatchString(id) {
		return ""
	}
	return id
}

// proofOf reads what an instance wrote of its key, where that decides.
func (a Admin) proofOf(ctx context.Context, row fleet.Minion) (string, error) {
	if a.Config.Admit != string(decide.Proven) || row.KeySHA256 != "" || !a.Config.OnDynamoDB() {
		return "", nil
	}
	here, err := awsenv.InstanceIdentity(ctx)
	if err != nil {
		return "", fmt.Errorf("find account for admit proven: %w", err)
	}
	found, err := awsenv.Proofs{Store: a.Store, Here: here}.Proofs(ctx, []string{row.InstanceID})
	if err != nil {
		return "", fmt.Errorf("read proof: %w", err)
	}
	return found[row.InstanceID].KeySHA256, nil
}
