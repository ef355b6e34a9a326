package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
)

// ListMinions is the request of Minions.
type ListMinions struct {
	Status  string `json:"status"`   // LAUNCH or TERMINATE, in either case; empty: both
	LastRun bool   `json:"last_run"` // with the last state run of each
}

// Minions returns the minions of the fleet, the oldest change first.
func (a Admin) Minions(ctx context.Context, r ListMinions) ([]fleet.Minion, error) {
	if r.Status == "" {
		return a.minions(ctx)
	}
	status := fleet.Status(strings.ToUpper(r.Status))
	if status != fleet.Launch && status != fleet.Terminate {
		return nil, config.Invalid(fmt.Errorf("--status %s is neither LAUNCH nor TERMINATE", r.Status))
	}
	return a.minions(ctx, status)
}

// AddMinions is the request of Add.
type AddMinions struct {
	IDs   []string `json:"ids"`
	Again bool     `json:"again"` // revive ids that were terminated
	Group string   `json:"group"`
}

// Add makes the fleet expect minions, and returns their rows. A minion whose key
// this master has accepted already is adopted.
func (a Admin) Add(ctx context.Context, r AddMinions) ([]fleet.Minion, error) {
	if err := a.checkIDs(r.IDs); err != nil {
		return nil, err
	}
	// Without the master's files, a bridge finds out whether a key is accepted.
	_, keys, _, err := open.Master(a.Config)
	if err != nil {
		keys = nil
	}
	instances, err := a.resolveInstances(ctx, r.IDs)
	if err != nil {
		return nil, fmt.Errorf("add minions: %w", err)
	}
	ended, err := a.ended(ctx, r, instances)
	if err != nil {
		return nil, fmt.Errorf("add minions: %w", err)
	}
	changes := make([]fleet.Change, 0, len(r.IDs))
	for _, id := range r.IDs {
		add := fleet.Add{InstanceID: instances[id], MinionID: a.minionID(id), Group: r.Group, Revive: r.Again}
		if ended[instances[id]] { // a key that is accepted here may be the former machine's
			changes = append(changes, add)
			continue
		}
		changes = append(changes, addOrAdopt(keys, add))
	}
	return a.apply(ctx, "add minions", "minion added", changes)
}

// ended returns the instances that were terminated, of those that are to be revived.
func (a Admin) ended(ctx context.Context, r AddMinions, instances map[string]string) (map[string]bool, error) {
	if !r.Again {
		return nil, nil
	}
	rows, err := a.Store.Minions(ctx, slices.Collect(maps.Values(instances)))
	if _, err := fleet.WithoutBadRows(err); err != nil { // a bad row is named when it is written
		return nil, err
	}
	ended := map[string]bool{}
	for instance, row := range rows {
		ended[instance] = row.Status == fleet.Terminate
	}
	return ended, nil
}

// addOrAdopt returns the change for a new minion. One whose key is accepted already
// is adopted, so that no highstate surprises it.
func addOrAdopt(keys *salt.Keys, add fleet.Add) fleet.Change {
	if keys != nil && add.MinionID != "" {
		if text, err := keys.Read(add.MinionID, salt.Accepted); err == nil {
			if digest, err := fleet.KeyDigest(text); err == nil {
				return fleet.Adopt{InstanceID: add.InstanceID, MinionID: add.MinionID, KeySHA256: digest,
					PublicKey: string(text)}
			}
		}
	}
	return add
}

// RetireMinions is the request of Retire.
type RetireMinions struct {
	IDs     []string `json:"ids"`
	Unknown bool     `json:"unknown"` // ids that the fleet does not know, too
	DryRun  bool     `json:"dry_run"` // return the rows as they are, and change nothing
}

// Retire records that minions were terminated, for good, and returns their rows. Ids that
// the fleet does not know are an error, beside the rows of the others.
func (a Admin) Retire(ctx context.Context, r RetireMinions) ([]fleet.Minion, error) {
	if err := a.checkIDs(r.IDs); err != nil {
		return nil, err
	}
	instances, known, err := a.rowsOf(ctx, r.IDs)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return nil, fmt.Errorf("retire minions: %w", err)
	}
	changes := make([]fleet.Change, 0, len(r.IDs))
	found, missing := []fleet.Minion{}, []string{}
	for _, id := range r.IDs {
		row, there := known[id]
		if !there && bad[instances[id]] == nil && !r.Unknown {
			missing = append(missing, id)
			continue
		}
		row.InstanceID = instances[id]
		found = append(found, row)
		changes = append(changes, fleet.Retire{InstanceID: instances[id]})
	}
	unknown := Unknown("retire", missing)
	if unknown != nil {
		unknown = fmt.Errorf("%w (--unknown to retire it all the same)", unknown)
	}
	if r.DryRun || len(changes) == 0 {
		return found, unknown
	}
	rows, err := a.apply(ctx, "retire minions", "minion retired", changes)
	return rows, errors.Join(unknown, err)
}

// RetireHeld has the bridge of this machine retire the minions whose terminations
// it holds back, and returns their ids: only the bridge knows them.
func (a Admin) RetireHeld(ctx context.Context) ([]string, error) {
	ids, err := api.NewClient(a.Config.Socket).Release(ctx)
	if err != nil {
		return nil, fmt.Errorf("retire held minions: %w", err)
	}
	return append([]string{}, ids...), nil
}
