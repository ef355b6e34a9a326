package admin

import (
	"context"
	"fmt"

	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
)

// AdoptMinions is the request of Adopt.
type AdoptMinions struct {
	DryRun bool `json:"dry_run"`
}

// Adoption is what became, or would become, of one accepted key.
type Adoption struct {
	ID      string `json:"id"`
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
}

// Outcomes of an adoption.
const (
	Adopted      = "adopted"
	WouldAdopt   = "would be adopted"
	AlreadyKnown = "known"
	PassedOver   = "passed over"
)

// Adopt takes the minions whose keys this master has accepted into the fleet.
func (a Admin) Adopt(ctx context.Context, r AdoptMinions) ([]Adoption, error) {
	_, keys, _, err := open.Master(a.Config)
	if err != nil {
		return nil, err
	}
	list, err := keys.List()
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	instances, rows, err := a.rowsOf(ctx, list.Accepted)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	valid, report := a.Config.ValidID(), []Adoption{}
	var changes []fleet.Change
	for _, id := range list.Accepted {
		row, known := rows[id]
		switch change, reason := adoption(keys, id, instances[id], valid(id)); {
		case bad[instances[id]] != nil:
			report = append(report, Adoption{id, PassedOver, bad[instances[id]].Error()})
		case known && row.KeySHA256 != "":
			report = append(report, Adoption{id, AlreadyKnown, "in the fleet already"})
		case change == nil:
			report = append(report, Adoption{id, PassedOver, reason})
		default:
			changes = append(changes, change)
		}
	}
	if r.DryRun {
		for _, change := range changes {
			report = append(report, Adoption{change.Instance(), WouldAdopt, ""})
		}
		return report, nil
	}
	more, err := a.applyAdoption(ctx, changes)
	if err != nil {
		return nil, err
	}
	return append(report, more...), nil
}

// adoption returns the change for one accepted key, or nil and the reason why there
// is none.
func adoption(keys *salt.Keys, id, instance string, valid bool) (fleet.Change, string) {
	if !valid {
		return nil, "the id does not match id_pattern"
	}
	text, err := keys.Read(id, salt.Accepted)
	if err != nil {
		return nil, err.Error()
	}
	digest, err := fleet.KeyDigest(text)
	if err != nil {
		return nil, err.Error()
	}
	return fleet.Adopt{InstanceID: instance, MinionID: id, KeySHA256: digest, PublicKey: string(text)}, ""
}

func (a Admin) applyAdoption(ctx context.Context, changes []fleet.Change) ([]Adoption, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	done := a.progress("writing %d rows", len(changes))
	results, err := a.Store.Apply(ctx, changes)
	done()
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	var report []Adoption
	var ids []string
	for i, r := range results {
		id := changes[i].Instance()
		if r.Err != nil {
			report = append(report, Adoption{id, PassedOver, r.Err.Error()})
			continue
		}
		ids = append(ids, id)
		report = append(report, Adoption{id, Adopted, ""})
	}
	if len(ids) > 0 {
		a.Record("minion adopted", ids...)
		a.notify(ctx, ids...)
	}
	return report, nil
}
