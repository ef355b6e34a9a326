package agent

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"phoenix/bridge/fleet"
)

// Observation is what one decision is based on.
type Observation struct {
	Masters []fleet.Master   // the whole table, as it was just read
	Bad     map[string]error // rows that cannot be decoded, by instance
	Listed  []string         // the addresses in the drop-in, in their order; none: there is no drop-in
	Trusted string           // digest of the key that the minion trusts; empty: it has met no master yet
	Others  []string         // digests of keys that it may trust instead, during a rotation
	Current string           // the address that the minion is connected to; empty: to none
	Answers map[string]bool  // by address: both ports took a connection just now

	ByAddress map[string]Master // what earlier rows said of listed masters
}

// silent returns 1 for a master that was probed and did not answer.
func (o Observation) silent(m Master) int {
	if answers, probed := o.Answers[m.Address]; probed && !answers {
		return 1
	}
	return 0
}

// Decision is the result. Either Hold says why nothing is to be done, or List is what
// the drop-in should say.
type Decision struct {
	Hold string
	List List
	// Doubt: the observation must be repeated, so the next read should be soon.
	Doubt bool
	// Joined and Left are the addresses by which List differs from what was listed, with
	// the reason for each. While both are empty the order of the list does not change
	// either: order alone is not worth a restart.
	Joined, Left map[string]string

	// Trust is the key that the minion must trust for List, if it trusts another now.
	Trust string

	Fit          []string // all that could be on the list: with agent.follow, more than are
	Lost         int      // masters that left because they no longer serve
	KnownMinions int      // minions of the fleet, as masters' rows say
	Returned     []string // fit masters that had left while the agent watched
}

// Changed reports whether masters joined or left.
func (d Decision) Changed() bool { return len(d.Joined)+len(d.Left) > 0 }

func hold(why string) Decision { return Decision{Hold: why} }

// reasons renders addresses with the reason for each.
func reasons(of map[string]string) string {
	var parts []string
	for _, address := range slices.SortedFunc(maps.Keys(of), cmp.Compare) {
		parts = append(parts, address+" "+of[address])
	}
	return strings.Join(parts, ", ")
}
