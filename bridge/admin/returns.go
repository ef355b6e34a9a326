package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
)

// HighstateResult is what the last first highstate of a minion did.
type HighstateResult struct {
	ID      string `json:"id"`
	JID     string `json:"jid"`
	Master  string `json:"master"` // that ran it
	Retcode *int   `json:"retcode"`
	States  int    `json:"states"`
	Changed int    `json:"changed"`
	// ChangedStates are the ids of those that changed something, sorted.
	ChangedStates []string           `json:"changed_states"`
	Failed        []salt.StateResult `json:"failed"`
	Text          string             `json:"text,omitempty"` // of a return that has no states
}

// HighstateResult returns what the last first highstate of a minion did, from the job
// cache of this master: the one that ran it has the return.
func (a Admin) HighstateResult(ctx context.Context, id string) (*HighstateResult, error) {
	if err := a.checkIDs([]string{id}); err != nil {
		return nil, err
	}
	master, _, _, err := open.Master(a.Config)
	if err != nil {
		return nil, err
	}
	_, rows, err := a.rowsOf(ctx, []string{id})
	if err != nil {
		return nil, fmt.Errorf("read highstate of %s: %w", id, err)
	}
	row, known := rows[id]
	switch {
	case !known:
		return nil, fmt.Errorf("read highstate of %s: %w", id, fleet.ErrNotFound)
	case row.ClaimJID == "":
		return nil, fmt.Errorf("read highstate of %s: %w", id, config.Invalid(errors.New("none was run for it (phoenix minions explain)")))
	}
	h := &HighstateResult{ID: id, JID: row.ClaimJID, Master: row.ClaimOwner, Retcode: row.Retcode, Failed: []salt.StateResult{}, ChangedStates: []string{}}
	states, text, err := salt.ReadReturn(master, row.ClaimJID, id)
	if errors.Is(err, salt.ErrNoReturn) {
		where := "run this on " + row.ClaimOwner + ", which ran it"
		if row.ClaimOwner == cmp.Or(a.bridgeReport(ctx).InstanceID, a.Config.InstanceID) {
			where = "it has not come, or is older than keep_jobs_seconds"
		}
		return nil, fmt.Errorf("read highstate of %s: job %s: %w (%s)", id, row.ClaimJID, err, where)
	}
	if err != nil {
		return nil, err
	}
	h.Text = text
	for _, s := range states {
		if h.States++; s.Changed {
			h.Changed++
			h.ChangedStates = append(h.ChangedStates, s.ID)
		}
		if !s.OK {
			h.Failed = append(h.Failed, s)
		}
	}
	slices.Sort(h.ChangedStates)
	return h, nil
}
