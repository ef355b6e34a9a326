package agent

import (
	"strings"
	"testing"
	"time"
)

// How soon a minion is restarted whose list was written.
func TestHaste(t *testing.T) {
	words := strings.Fields
	for _, test := range []struct {
		name                              string
		list, fit, memory, current        string
		hot, gone, disconnected, returned bool
		want                              Urgency
	}{
		{name: "another joins behind", list: "a b", fit: "a b", memory: "a", current: "a", want: Whenever},
		{name: "another joins behind two", list: "a b c", fit: "a b c", memory: "a b", current: "a", want: Whenever},
		{name: "a better one joins, and one lives", list: "b a", fit: "a b", memory: "a", current: "a", want: Soon},
		{name: "a better one joins, and two live", list: "c a b", fit: "a b c", memory: "a b", current: "a",
			want: Whenever},
		{name: "a better one joins, and of two one lives", list: "c a", fit: "a c", memory: "a b",
			current: "a", want: Soon},
		{name: "the better one comes back", list: "b a", fit: "a b", memory: "a", current: "a", returned: true,
			want: Whenever},
		{name: "another leaves", list: "a b", fit: "a b", memory: "a b c", current: "a", want: Whenever},
		{name: "its own leaves", list: "b c", fit: "b c", memory: "a b c", current: "a", want: Leaving},
		{name: "its own is gone", list: "b c", fit: "b c", memory: "a b c", current: "a", gone: true, want: Now},
		{name: "its own is gone, and is listed still", list: "a b", fit: "a b", memory: "a b", current: "a", gone: true,
			want: Whenever},
		{name: "its own is gone, and it knows no other", list: "a b", fit: "a b", memory: "a", current: "a",
			gone: true, want: Now},
		{name: "its own is gone, and there is no other", list: "a", fit: "a", memory: "a b", current: "a", gone: true,
			want: Whenever},
		{name: "connected to none", list: "a b", fit: "a b", memory: "a b", current: "a",
			disconnected: true, want: Now},
		{name: "what it was started with is not known", list: "a b", fit: "a b", current: "a", want: Whenever},

		{name: "hot: another comes first", list: "a b", fit: "a b c", memory: "b c", hot: true, want: Whenever},
		{name: "hot: one of two is dead", list: "b c", fit: "b c", memory: "a b", hot: true, want: OneLeft},
		{name: "hot: one of two is dead, and there is no other", list: "b", fit: "b", memory: "a b", hot: true,
			want: Whenever},
		{name: "hot: one of three is dead", list: "b c d", fit: "b c d", memory: "a b c", hot: true, want: Whenever},
		{name: "hot: both leave", list: "c d", fit: "c d", memory: "a b", hot: true, want: Leaving},
		{name: "hot: both are dead", list: "c d", fit: "c d", memory: "a b", hot: true, gone: true, want: Now},
		{name: "hot: those that it follows do not answer, and are fit", list: "a b", fit: "a b", memory: "a b",
			hot: true, gone: true, want: Whenever},
		{name: "hot: connected to none", list: "a b", fit: "a b", memory: "a b", hot: true,
			disconnected: true, want: Now},
	} {
		n := UrgencyInput{List: words(test.list), Fit: words(test.fit),
			Running: Running{Masters: words(test.memory), Hot: test.hot},
			Current: test.current, Unreachable: test.gone, Disconnected: test.disconnected}
		if test.returned {
			n.Returned = n.List[:1]
		}
		if got, why := n.urgency(); got != test.want {
			t.Errorf("%s: %v (%s), want %v", test.name, got, why, test.want)
		}
	}
}

// A small fleet's agents wait as configured; those of a large one for as long as
// its masters need.
func TestSplayGrowsWithTheFleet(t *testing.T) {
	for _, test := range []struct {
		crowd       FleetLoad
		urgency     Urgency
		least, most time.Duration
	}{
		{FleetLoad{}, Now, 0, shortSplay},
		{FleetLoad{}, Leaving, 0, leavingSplay},
		{FleetLoad{}, Soon, 0, time.Minute},
		{FleetLoad{}, OneLeft, oneLeftLeast, oneLeftMost},
		{FleetLoad{}, Whenever, 0, 6 * time.Hour},
		{FleetLoad{Minions: 300, Masters: 2, Lost: 1}, Now, 0, shortSplay},
		{FleetLoad{Minions: 10_000, Masters: 3, Lost: 1}, Now, 0, 33 * time.Second},
		{FleetLoad{Minions: 10_000, Masters: 3, Lost: 1, Follow: 2}, Now, 0, 66 * time.Second},
		{FleetLoad{Minions: 10_000, Masters: 1, Lost: 1}, Leaving, 0, 200 * time.Second},
		{FleetLoad{Minions: 10_000, Masters: 4}, Soon, 0, 100 * time.Second},
		{FleetLoad{Minions: 10_000, Masters: 4, OnFirst: true}, Soon, 0, 400 * time.Second},
		{FleetLoad{Minions: 10_000, Masters: 4}, Whenever, 0, 6 * time.Hour},
		{FleetLoad{Minions: 1 << 40, Masters: 1, Lost: 1}, Now, 0, splayMost}, // a row that is wrong
	} {
		least, most := test.crowd.splay(test.urgency, time.Minute, 6*time.Hour)
		if least != test.least || most.Truncate(time.Second) != test.most {
			t.Errorf("%+v, %v: from %v to %v, want %v to %v", test.crowd, test.urgency, least, most,
				test.least, test.most)
		}
	}
	// Who wants no list to wait has none wait.
	if least, most := (FleetLoad{}).splay(OneLeft, time.Minute, time.Second); least != time.Second ||
		most != time.Second {
		t.Errorf("from %v to %v, with agent.settle 1s", least, most)
	}
}
