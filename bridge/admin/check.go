package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"phoenix/bridge/fleet"
)

// MasterCheck says whether a master can be restarted now, and what follows.
type MasterCheck struct {
	InstanceID string   `json:"instanceid"`
	Safe       bool     `json:"safe"`
	Why        []string `json:"why"`   // it is not safe; empty: it is
	Ready      []string `json:"ready"` // other masters that serve
	// Connected counts minions that are connected to it, as its row says: with
	// agent.follow 1 they move to the others, within a minute or so.
	Connected int `json:"connected"`
	// Running are the minions whose first highstate it runs: another master takes them
	// over, and asks the minion before anything is sent.
	Running []string `json:"running"`
	// Waiting counts minions that want their first highstate and have none yet.
	Waiting int `json:"waiting"`
	// Draining: it is drained already.
	Draining bool `json:"draining"`
}

// CheckMaster says what a restart of a master would do. It changes nothing.
func (a Admin) CheckMaster(ctx context.Context, id string) (*MasterCheck, error) {
	masters, err := a.Masters(ctx)
	if _, err := fleet.WithoutBadRows(err); err != nil {
		return nil, fmt.Errorf("check master %s: %w", id, err)
	}
	i := slices.IndexFunc(masters, func(m fleet.Master) bool { return m.InstanceID == id })
	if i < 0 {
		return nil, fmt.Errorf("check master %s: %w (phoenix masters list)", id, fleet.ErrNotFound)
	}
	own := masters[i]
	c := &MasterCheck{InstanceID: id, Connected: own.Connected, Draining: own.Draining, Why: []string{}, Ready: []string{}, Running: []string{}}
	drained := 0
	for _, m := range Serving(masters, a.Config.Highstate.Lease, time.Now()) {
		switch {
		case m.InstanceID == id:
		case m.Draining:
			drained++
		default:
			c.Ready = append(c.Ready, m.InstanceID)
		}
	}
	rows, err := a.minions(ctx, fleet.Launch)
	if _, err := fleet.WithoutBadRows(err); err != nil {
		return nil, fmt.Errorf("check master %s: %w", id, err)
	}
	for _, row := range rows {
		switch {
		case row.ClaimState == fleet.Claimed:
			if row.ClaimOwner == id {
				c.Running = append(c.Running, row.SaltID())
			}
		case row.WantsHighstate():
			c.Waiting++
		}
	}
	slices.Sort(c.Running)
	if len(c.Ready) == 0 && own.Status == fleet.Launch {
		why := "no other master serves: minions are alone until it is back"
		if drained > 0 {
			why = fmt.Sprintf("the other masters that serve are drained (%d): minions have nowhere to go", drained)
		}
		c.Why = append(c.Why, why)
	}
	if n := len(c.Running); n > 0 {
		c.Why = append(c.Why, fmt.Sprintf("%d first highstates run from it", n))
	}
	c.Safe = len(c.Why) == 0
	return c, nil
}
