package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
)

// HighstateResult is what the last first highstate of a minion did.
type HighstateResult struct {
	ID     string `json:"id"`
	JID    string `json:"jid"`
	Master string `json:"master"` // that ran it; empty: that is not on record
	// Other is the function of another state run, where no first highstate is on record: the
	// last one that is known on this master. Empty: it is the first highstate.
	Other   string `json:"other_run,omitempty"`
	Retcode *int   `json:"retcode"`
	States  int    `json:"states"`
	Changed int    `json:"changed"`
	// ChangedStates are the ids of those that changed something, sorted.
	ChangedStates []string           `json:"changed_states"`
	Failed        []salt.StateResult `json:"failed"`
	Text          string             `json:"text,omitempty"` // of a return that has no states
}

// ErrNoRun is returned when no state run of a minion is known on this master.
var ErrNoRun = errors.New("no state run of it is known on this master")

// HighstateResult returns what the last first highstate of a minion did, from the job
// cache of this master: the one that ran it has the return. If none is on record, as while
// one is requested, it returns what the last state run did that is known here.
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
	if !known {
		return nil, fmt.Errorf("read highstate of %s: %w", id, fleet.ErrNotFound)
	}
	h := &HighstateResult{ID: id, JID: row.ClaimJID, Master: row.ClaimOwner, Retcode: row.Retcode,
		Failed: []salt.StateResult{}, ChangedStates: []string{}}
	if row.ClaimState == fleet.Unclaimed { // nothing ran yet, or its job was refused by a busy minion
		run := a.lastRun(ctx, id, row)
		if run == nil {
			return nil, fmt.Errorf("read highstate of %s: %w (phoenix minions explain %s)", id, ErrNoRun, id)
		}
		h.JID, h.Master, h.Other, h.Retcode = run.JID, "", run.Function, &run.Retcode
	}
	states, text, err := salt.ReadReturn(master, h.JID, id)
	if errors.Is(err, salt.ErrNoReturn) {
		where := "run this on " + row.ClaimOwner + ", which ran it"
		switch self := cmp.Or(a.bridgeReport(ctx).InstanceID, a.Config.InstanceID); {
		case h.Other != "":
			where = "its return came from another master, or is older than keep_jobs_seconds"
		case row.ClaimOwner == self && row.ClaimState == fleet.Claimed:
			where = fmt.Sprintf("it has not ended: phoenix minions explain %s", id)
		case row.ClaimOwner == self:
			where = "it has not come, or is older than keep_jobs_seconds"
		}
		return nil, fmt.Errorf("read highstate of %s: job %s: %w (%s)", id, h.JID, err, where)
	}
	if err != nil {
		return nil, err
	}
	if h.Other != "" {
		a.note("%s", noFirst(row, h.Other))
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

// noFirst says why another state run is returned than the first highstate.
func noFirst(row fleet.Minion, function string) string {
	why := "no first highstate of it is on record"
	switch phase := decide.PhaseOf(row, true, false); {
	case phase == decide.PhaseAdopted:
		why = "it was adopted, so no first highstate is on record"
	case row.ClaimJID != "" && row.ClaimState == fleet.Unclaimed:
		why = "its highstate waits for the end of another state run (phoenix minions explain " + row.SaltID() + ")"
	case row.Requested():
		why = "the highstate that was requested has not begun (phoenix minions explain " + row.SaltID() + ")"
	case row.WantsHighstate():
		why = "its first highstate has not begun (phoenix minions explain " + row.SaltID() + ")"
	}
	return fmt.Sprintf("%s; this is its last state run that is known on this master, %s", why, function)
}
