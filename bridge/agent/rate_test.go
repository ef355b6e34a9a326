package agent

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// No master is asked for more than 50 authentications in any second, in a fleet of
// 10,000 minions that are all restarted as soon as they may be. The simulation of
// agents runs a sample of them, which tells nothing of single seconds.
func TestAuthenticationsInOneSecond(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 11))
	for _, test := range []struct {
		name    string
		urgency Urgency
		crowd   FleetLoad
		hit     int // minions that are restarted
	}{
		{"one of two is lost", Now, FleetLoad{Minions: 10_000, Masters: 1, Lost: 1}, 5000},
		{"one of four is lost", Now, FleetLoad{Minions: 10_000, Masters: 3, Lost: 1}, 2500},
		{"one of four drains", Leaving, FleetLoad{Minions: 10_000, Masters: 3, Lost: 1}, 2500},
		{"two of four are lost, of two that each follows", Now,
			FleetLoad{Minions: 10_000, Masters: 2, Lost: 2, Follow: 2}, 1667},
		{"a second joins the only one", Soon, FleetLoad{Minions: 10_000, Masters: 2}, 5000},
		{"all prefer the first, which is lost", Now, FleetLoad{Minions: 10_000, Masters: 3, Lost: 1, OnFirst: true},
			10_000},
		{"within agent.settle, which is a minute", Whenever, FleetLoad{Minions: 10_000, Masters: 2}, 10_000},
	} {
		least, most := test.crowd.splay(test.urgency, time.Minute, time.Minute)
		share := max(test.crowd.Follow, 1)
		asked := map[string]int{}
		for range test.hit {
			at := least + time.Duration(random.Int64N(int64(most-least)))
			targets := random.Perm(test.crowd.Masters)[:share]
			switch {
			case test.crowd.OnFirst:
				targets = []int{0}
			case test.urgency == Soon: // all of them turn to the one that joins
				targets = []int{test.crowd.Masters - 1}
			}
			for _, target := range targets {
				asked[fmt.Sprint(target, at/time.Second)]++
			}
		}
		peak := 0
		for _, n := range asked {
			peak = max(peak, n)
		}
		t.Logf("%s: %d minions within %v, at most %d authentications of a master in one second", test.name, test.hit,
			most.Round(time.Second), peak)
		if peak > 50 {
			t.Errorf("%s: %d authentications in one second", test.name, peak)
		}
	}
}
