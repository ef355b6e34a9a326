package cli

import (
	"cmp"
	"context"
	"fmt"

	"phoenix/bridge/api"
	"phoenix/bridge/doctor"
	"phoenix/bridge/fleet"
	"phoenix/bridge/relay"
	"phoenix/bridge/service"
)

func relayForDoctor(r *relay.Status) *doctor.Relay {
	if r == nil {
		return nil
	}
	d := &doctor.Relay{Data: plain(r.Data)}
	if !r.Hears {
		d.Deaf = plain(cmp.Or(r.Error, "not read yet"))
	}
	for _, p := range r.Peers {
		if p.Connected {
			d.With++
		} else {
			d.Away = append(d.Away, plain(fmt.Sprintf("%s (%s)", p.Master, cmp.Or(p.Error, "not tried yet"))))
		}
	}
	return d
}

// relayStates says of each master whether this machine's bridge is connected to its
// relay; empty where no bridge answers.
func relayStates(ctx context.Context, socket string) map[string]string {
	var report service.Report
	if err := api.NewClient(socket).Status(ctx, &report); err != nil || report.Relay == nil {
		return nil
	}
	states := map[string]string{report.InstanceID: "this master"}
	for _, p := range report.Relay.Peers {
		states[p.Master] = "NOT connected"
		if p.Connected {
			states[p.Master] = "connected"
		}
	}
	return states
}

func relayState(m fleet.Master, states map[string]string) string {
	switch {
	case m.Relay == "":
		return "none"
	case states[m.InstanceID] == "":
		return m.Relay
	}
	return states[m.InstanceID]
}
