package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// lists are what each of 10,000 minions follows, by the numbers of the masters.
func lists(masters []Master, follow Follow) (of [][]int) {
	for i := range 10_000 {
		ordered := slices.Clone(masters)
		Spread.sort(fmt.Sprintf("i-%017x", i), ordered)
		if follow == FollowOne {
			ordered = ordered[:1]
		}
		var list []int
		for _, m := range follow.choose(ordered) {
			list = append(list, slices.Index(masters, m))
		}
		of = append(of, list)
	}
	return of
}

// alone counts those that are left without a master when these die.
func alone(lists [][]int, dead ...int) (n int) {
	for _, list := range lists {
		if !slices.ContainsFunc(list, func(i int) bool { return !slices.Contains(dead, i) }) {
			n++
		}
	}
	return n
}

// fleetIn makes masters in zones, a letter each.
func fleetIn(zones string) (masters []Master) {
	for i, z := range zones {
		m := Master{InstanceID: fmt.Sprintf("i-%08x", i+1), Address: fmt.Sprintf("10.0.0.%d", i+1)}
		if z != '-' {
			m.Zone = string(z)
		}
		masters = append(masters, m)
	}
	return masters
}

// TestAloneAfterDeaths: how many minions of 10,000 have no master left, at the
// moment when one dies, or two, or all of a zone. docs/agent-behaviour.md has the table.
func TestAloneAfterDeaths(t *testing.T) {
	for _, zones := range []string{"ab", "aab", "abc", "aabb", "aabc", "aabbcc"} {
		masters, unknown := fleetIn(zones), fleetIn(strings.Repeat("-", len(zones)))
		var a []int
		for i := range zones {
			if zones[i] == 'a' {
				a = append(a, i)
			}
		}
		for _, follow := range []Follow{1, 2, 3} {
			of, blind := lists(masters, follow), lists(unknown, follow)
			pairs := func(of [][]int) (n int) { // on average
				for i := range masters {
					for j := range i {
						n += alone(of, i, j)
					}
				}
				return n / (len(masters) * (len(masters) - 1) / 2)
			}
			one := alone(of, 0)
			t.Logf("masters in zones %-6s follow %v: one dies %5d; two die %5d, zones not known %5d; zone a dies %5d, zones not known %5d",
				zones, follow, one, pairs(of), pairs(blind), alone(of, a...), alone(blind, a...))
			if follow > 1 && (one > 0 || alone(of, a...) > 0) || follow > 2 && len(masters) > 2 && pairs(of) > 0 {
				t.Errorf("%s, follow %v: some are alone", zones, follow)
			}
		}
	}
}

// Each master serves its share, whatever is followed, if the zones are alike.
func TestFollowIsShared(t *testing.T) {
	for _, zones := range []string{"----", "aabb", "abcd"} {
		masters := fleetIn(zones)
		for _, follow := range []Follow{2, 3} {
			load := map[string]int{}
			for _, list := range lists(masters, follow) {
				for _, i := range list {
					load[masters[i].Address]++
				}
			}
			for address, n := range load {
				if want := 10_000 * int(follow) / len(masters); n < want*9/10 || n > want*11/10 {
					t.Errorf("zones %s, follow %v: %s serves %d, want some %d", zones, follow, address, n, want)
				}
			}
		}
	}
}
