package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/api"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
	"phoenix/bridge/service"
)

// Overview is the state of the fleet, and of the bridge on this machine.
type Overview struct {
	Masters []fleet.Master       `json:"masters"`
	Minions map[decide.Phase]int `json:"minions"`
	Follow  fleet.Following      `json:"following"`         // by masters that serve
	Keys    string               `json:"keys,omitempty"`    // why foreign keys could not be counted
	Counted string               `json:"counted,omitempty"` // what minions are counted, where it is not all
	Breaker *Breaker             `json:"breaker,omitempty"` // of first highstates; absent: highstate.breaker is 0
	Bridge  *service.Report      `json:"bridge"`            // null: none answers on this machine
	Hint    string               `json:"bridge_error,omitempty"`
	BadRows []string             `json:"bad_rows,omitempty"` // what is wrong with rows that are left out
	// Failed are minions whose last highstate failed, the first by their ids.
	Failed []string `json:"failed,omitempty"`
	// OtherKeys are keys of this master that are not the known ones of their ids;
	// OtherKeysUnread says how many more denied and pending keys were not examined.
	OtherKeys       []OtherKey `json:"other_keys,omitempty"`
	OtherKeysUnread int        `json:"other_keys_unread,omitempty"`
}

// maxFailed is how many failed minions an overview names.
const maxFailed = 100

// maxBadRows is how many of the rows that cannot be decoded an overview names: as many as
// a bridge remembers.
const maxBadRows = 10_000

// leaveOut names the rows that could not be decoded in the overview, and returns
// what is left of an error.
func (o *Overview) leaveOut(err error) error {
	bad, rest := fleet.WithoutBadRows(err)
	for _, id := range slices.Sorted(maps.Keys(bad)) {
		if len(o.BadRows) == maxBadRows {
			break
		}
		o.BadRows = append(o.BadRows, OneLine(bad[id]))
	}
	return rest
}

// Count says how minions are counted.
type Count bool

const (
	// CountAll reads the rows of the whole fleet.
	CountAll Count = true
	// CountCheaply does so only where reading costs nothing: DynamoDB is paid for by
	// what is read. Else it takes the bridge's own count.
	CountCheaply Count = false
)

// Status returns the state of the fleet, and of the bridge on this machine.
func (a Admin) Status(ctx context.Context, count Count) (*Overview, error) {
	defer a.progress("reading the fleet")()
	o := &Overview{Minions: map[decide.Phase]int{}}
	var err error
	o.Masters, err = a.Store.Masters(ctx)
	if err := o.leaveOut(err); err != nil {
		return nil, err
	}
	if o.Masters == nil {
		o.Masters = []fleet.Master{} // [] in JSON, not null
	}
	if o.Breaker, err = a.breaker(ctx); err != nil {
		return nil, err
	}
	o.Follow = fleet.CountFollowing(Serving(o.Masters, a.Config.Highstate.Lease, time.Now()))
	var report service.Report
	client := api.NewClient(a.Config.Socket)
	read := client.Status
	if count == CountAll {
		read = client.FullStatus
	}
	if err := read(ctx, &report); err != nil {
		o.Hint = err.Error()
	} else {
		o.Bridge = &report
	}
	if count == CountAll || !a.Config.OnDynamoDB() {
		if err := a.countMinions(ctx, o); err != nil {
			return nil, err
		}
		return o, nil
	}
	o.Counted = "not counted: no bridge has compared keys and fleet here"
	if o.Bridge != nil && o.Bridge.Engine.Resynced {
		maps.Copy(o.Minions, o.Bridge.Engine.Census)
		for _, h := range o.Bridge.Engine.Highstate { // as many as the bridge names
			if h.State == fleet.Failed {
				o.Failed = append(o.Failed, h.Minion)
			}
		}
		o.Counted = fmt.Sprintf("counted by this master's keys; the next comparison is in %v",
			max(time.Until(o.Bridge.Engine.ResyncAt), 0).Round(time.Second))
	}
	return o, nil
}

// countMinions counts the fleet, and the keys of this master that are not in it.
func (a Admin) countMinions(ctx context.Context, o *Overview) error {
	listed := map[string]bool{}
	for _, status := range []fleet.Status{fleet.Launch, fleet.Terminate} {
		err := a.Store.ByStatus(ctx, status, "", func(page []fleet.Minion) error {
			for _, r := range page {
				listed[r.SaltID()] = true
				phase := decide.PhaseOf(r, true, false)
				o.Minions[phase]++
				if phase == decide.PhaseFailed {
					o.Failed = append(o.Failed, r.SaltID())
				}
			}
			return nil
		})
		if err := o.leaveOut(err); err != nil {
			return err
		}
	}
	slices.Sort(o.Failed)
	o.Failed = o.Failed[:min(len(o.Failed), maxFailed)]
	_, keys, _, err := open.Master(a.Config)
	if err != nil {
		o.Keys = err.Error()
		return nil
	}
	list, err := keys.List()
	if err != nil {
		o.Keys = err.Error()
		return nil
	}
	var suspects []string
	if o.Bridge != nil {
		suspects = otherAccepted(*o.Bridge)
	}
	if o.OtherKeys, o.OtherKeysUnread, err = a.otherKeys(ctx, keys, list, suspects); err != nil {
		o.Keys = err.Error()
	}
	for _, id := range list.Accepted {
		if !listed[id] {
			o.Minions[decide.PhaseForeign]++
		}
	}
	for _, id := range list.Pending {
		if !listed[id] {
			o.Minions[decide.PhaseUnlisted]++
		}
	}
	return nil
}
