package agent

import (
	"fmt"
	"slices"
	"strconv"

	"phoenix/bridge/salt"
)

// Follow is how many masters a minion is connected to at once.
type Follow int

const (
	// FollowOne: one at a time, and the next of the list when it is lost
	// (master_type: failover).
	FollowOne Follow = 1
	// FollowAll: all that are ready (master_type: str, as for each number but one).
	FollowAll Follow = 0
)

// maxFollow: each master that a minion follows costs it and the master a
// connection, and some 10 MB of the minion's memory.
const maxFollow = 16

// ParseFollow reads agent.follow: a number, or "all".
func ParseFollow(text string) (Follow, error) {
	if text == "all" {
		return FollowAll, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxFollow {
		return 0, fmt.Errorf("%q is neither a number from 1 to %d nor all", text, maxFollow)
	}
	return Follow(n), nil
}

func (f Follow) String() string {
	if f == FollowAll {
		return "all"
	}
	return strconv.Itoa(int(f))
}

func (f Follow) hot() bool { return f != FollowOne }

// choose returns as many of the masters as are followed. Input and result are in the
// minion's order. Each further one is of a zone that has the fewest so far, so that the
// loss of one zone leaves the minion another master if there is one in another zone. A
// master whose zone is not known counts as a zone of its own.
func (f Follow) choose(masters []Master) []Master {
	if f == FollowAll || len(masters) <= int(f) {
		return masters
	}
	chosen := make([]bool, len(masters))
	taken := map[string]int{}
	for range int(f) {
		best := -1
		for i, m := range masters {
			if !chosen[i] && (best < 0 || taken[zoneOf(m)] < taken[zoneOf(masters[best])]) {
				best = i
			}
		}
		chosen[best] = true
		taken[zoneOf(masters[best])]++
	}
	var list []Master
	for i, m := range masters {
		if chosen[i] {
			list = append(list, m)
		}
	}
	return list
}

func zoneOf(m Master) string {
	if m.Zone == "" {
		return "\x00" + m.Address
	}
	return m.Zone
}

// HotByHand reports whether the own configuration of a minion that had no agent before
// makes it follow several masters at once, and returns these. An agent without
// agent.follow does not change such a minion: the default would make it fail over.
func HotByHand(c salt.MinionConfig, listed []Master) (masters []string, hot bool) {
	if len(listed) > 0 || len(c.Masters) < 2 || c.MasterType != "str" {
		return nil, false
	}
	return slices.Clone(c.Masters), true
}
