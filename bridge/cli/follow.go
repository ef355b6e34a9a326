package cli

import (
	"fmt"
	"strconv"
	"time"

	"phoenix/bridge/admin"
	"phoenix/bridge/doctor"
	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// followed is agent.follow as a number: 1 where it is not set, and as many as there are
// masters for "all".
func followed(follow string, masters int) int {
	if follow == "all" {
		return masters
	}
	n, err := strconv.Atoi(follow)
	if err != nil {
		return 1
	}
	return n
}

// describeFollowing says how many masters minions are connected to; empty while no
// master knows of a minion.
func describeFollowing(f fleet.Following, follow string) string {
	if f.Masters == 0 || f.Minions == 0 {
		return ""
	}
	n := followed(follow, f.Masters)
	text := fmt.Sprintf("connections to %s: %d; minions with an accepted key: %d", plural.Of(f.Masters, "ready master"),
		f.Connections, f.Minions)
	if n > 1 {
		text += fmt.Sprintf(", each to follow %s (agent.follow)", plural.Of(n, "master"))
	}
	missing := f.Missing(n)
	switch {
	case f.Connections > min(n, f.Masters)*f.Minions:
		return text + "; there are more connections: some minions follow more masters, or their key is not accepted"
	case missing == 0:
		return text
	case n == 1:
		return text + fmt.Sprintf("; not connected, or switched off: %s", plural.Of(missing, "minion"))
	case f.Masters == 1:
		return text + "; each minion has one master left"
	}
	return text + fmt.Sprintf("; %d are missing: up to %s may have one master left", missing,
		plural.Of(min(missing, f.Minions), "minion"))
}

// follow is what doctor is given of it.
func (v *visit) follow(masters []fleet.Master) {
	f := fleet.CountFollowing(admin.Serving(masters, v.cfg.Highstate.Lease, time.Now()))
	v.fleet.Follow = doctor.Follow{Following: f, Number: followed(v.cfg.Agent.Follow, f.Masters)}
}
