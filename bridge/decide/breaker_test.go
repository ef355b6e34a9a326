package decide

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

func TestParseBreaker(t *testing.T) {
	for text, want := range map[string]Breaker{"0": {}, "5/10": {5, 10}, "1/1": {1, 1}, "100/100": {100, 100}} {
		if got, err := ParseBreaker(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "/", "5/", "/10", "0/10", "6/5", "-1/5", "5/101", "x/y", "5/10/15",
		"0/0", " 5/10"} {
		if got, err := ParseBreaker(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// Results are written as letters, one a minion, small where the highstate failed;
// "aA" is a minion whose first attempt failed and whose second succeeded.
func TestBreakerRecord(t *testing.T) {
	for _, c := range []struct {
		policy  Breaker
		results string
		opensAt int    // the number of the result that opens it; 0: none does
		last    string // what is kept
	}{
		{Breaker{2, 3}, "", 0, ""},
		{Breaker{2, 3}, "AB", 0, ""}, // successes alone are not written
		{Breaker{2, 3}, "ABa", 0, "a"},
		{Breaker{2, 3}, "ab", 2, "ab"},
		{Breaker{2, 3}, "aBc", 3, "aBc"},
		{Breaker{2, 3}, "aBCd", 0, "d"}, // a is the last but three
		{Breaker{2, 3}, "aBCD", 0, ""},
		{Breaker{2, 3}, "aaaa", 0, "a"}, // the attempts of one minion
		{Breaker{2, 3}, "aAb", 0, "b"},  // repaired by its second attempt
		{Breaker{2, 3}, "aba", 2, "ab"}, // stays as it was when it opened
		{Breaker{2, 3}, "abCDEF", 2, "ab"},
		{Breaker{1, 1}, "ABc", 3, "c"},
		{Breaker{5, 10}, "aBcDeFgHIk", 10, "aBcDeFgHIk"},
		{Breaker{5, 10}, "aBcDeFgHIJKk", 0, "cDeFgHIJk"},
		{Breaker{}, "abcdefghiklmnop", 0, ""},
	} {
		var b fleet.Breaker
		opened, writes := 0, int64(0)
		for i, r := range c.results {
			letter := string(r)
			result := fleet.BreakerResult{InstanceID: strings.ToLower(letter), JID: fmt.Sprint(i),
				Failed: letter == strings.ToLower(letter)}
			next, changed := c.policy.Record(b, []fleet.BreakerResult{result}, "m1", noon)
			if changed {
				writes++
			}
			if again, changed := c.policy.Record(next, []fleet.BreakerResult{result}, "m2", noon); changed {
				t.Errorf("%v %s: result %d, recorded twice: %+v", c.policy, c.results, i+1, again)
			}
			if b = next; b.Open() && opened == 0 {
				opened = i + 1
			}
		}
		kept := ""
		for _, r := range b.Last {
			if letter := r.InstanceID; r.Failed {
				kept += letter
			} else {
				kept += strings.ToUpper(letter)
			}
		}
		if opened != c.opensAt || kept != c.last || b.Version != writes {
			t.Errorf("%v %s: opened at %d, keeps %s, version %d after %d writes; want %d, %s", c.policy, c.results,
				opened, kept, b.Version, writes, c.opensAt, c.last)
		}
		if b.Open() && (b.Reason == "" || b.OpenedBy != "m1" || b.Opened != fleet.FormatTime(noon)) {
			t.Errorf("%v %s: %+v", c.policy, c.results, b)
		}
		closed := Resume(b, "root", noon)
		if closed.Open() || closed.Version != b.Version+1 || len(closed.Last) != 0 || closed.ResumedBy != "root" {
			t.Errorf("%v %s: resumed %+v", c.policy, c.results, closed)
		}
	}
}

// While the breaker is open nothing new is claimed or published; what runs goes on, and
// what an operator asked for begins.
func TestBreakerHalts(t *testing.T) {
	policy := Policy{Enabled: true, Attempts: 3, Lease: lease}
	self := Self{ID: "m1", Incarnation: "1", Beating: true, Slots: 1, Open: "it is open"}
	row := func(change func(*fleet.Minion)) fleet.Minion {
		m := fleet.Minion{InstanceID: "i-1", Status: fleet.Launch, KeySHA256: "A"}
		if change != nil {
			change(&m)
		}
		return m
	}
	claimed := func(owner string, more func(*fleet.Minion)) fleet.Minion {
		return row(func(m *fleet.Minion) {
			m.ClaimState, m.ClaimOwner, m.ClaimIncarnation, m.ClaimJID, m.Attempt = fleet.Claimed, owner, "1", "A", 1
			if more != nil {
				more(m)
			}
		})
	}
	requested := func(m *fleet.Minion) { m.HighstateRunner = fleet.RunnerRequested }
	for _, c := range []struct {
		name   string
		row    fleet.Minion
		owner  Liveness
		view   func(*HighstateView)
		open   Act
		closed Act
	}{
		{"new", row(nil), Unseen, nil, Halt, Take},
		{"next attempt", row(func(m *fleet.Minion) { m.ClaimState, m.ClaimJID, m.Attempt = fleet.Failed, "A", 1 }),
			Unseen, nil, Halt, Take},
		{"asked for", row(requested), Unseen, nil, Take, Take},
		{"claimed, not published", claimed("m1", nil), Unseen, func(c *HighstateView) { c.Taken = TakenNew },
			Halt, Publish},
		{"asked for, claimed", claimed("m1", requested), Unseen, func(c *HighstateView) { c.Taken = TakenNew },
			Publish, Publish},
		{"not known to the minion", claimed("m1", nil), Unseen, func(c *HighstateView) {
			c.Taken, c.Published, c.Unknowns, c.Asks = TakenNew, noon.Add(-time.Minute), unknownsToAct, 3
		}, Halt, Publish},
		{"runs", claimed("m1", nil), Unseen, func(c *HighstateView) { c.Taken, c.Published = TakenNew, noon }, Wait,
			Wait},
		{"its owner is gone", claimed("m2", nil), Stopped, nil, Take, Take},
		{"returned", claimed("m1", nil), Unseen,
			func(c *HighstateView) { c.Ended = &Ended{JID: "A", Outcome: fleet.Erred} }, Finish, Finish},
	} {
		view := HighstateView{Accepted: true, ConnectedAt: noon}
		view.UpdateRow(c.row, noon.Add(-time.Minute))
		if c.view != nil {
			c.view(&view)
		}
		if got := Highstate(policy, self, c.owner, view, noon); got.Act != c.open {
			t.Errorf("%s: open: %s (%s), want %s", c.name, got.Act, got.Reason, c.open)
		}
		closed := self
		closed.Open = ""
		if got := Highstate(policy, closed, c.owner, view, noon); got.Act != c.closed {
			t.Errorf("%s: closed: %s (%s), want %s", c.name, got.Act, got.Reason, c.closed)
		}
	}
}
