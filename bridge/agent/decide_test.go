package agent

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// scene is one minion's view of a fleet. A master is written in letters:
//
//	A its name (upper case: it is listed)
//	b beats, s its heartbeat stands still
//	a answers on its ports, - does not
//	r ready, n not ready, d ready and draining, D draining and not ready, T terminated
//	1 its key is the one the minion trusts, 2 another, 0 not said yet
//
// "Aba r1" with the space for reading. The address of A and a is "a".
type scene struct {
	masters string
	trusted string // "1" unless said otherwise; "none": it has met no master
	current string
	extra   []string // listed addresses without a row
	follow  string   // "1" unless said otherwise
	zones   string   // of the masters, a letter each; none: not known
}

func (s scene) read(t *testing.T) (rows []fleet.Master, sight Observation) {
	t.Helper()
	sight = Observation{Trusted: "1", Current: s.current, Answers: map[string]bool{}}
	if s.trusted == "none" {
		sight.Trusted = ""
	}
	for _, text := range strings.Split(s.masters, ",") {
		text = strings.ReplaceAll(text, " ", "")
		if text == "" {
			continue
		}
		if len(text) != 5 {
			t.Fatalf("master %q", text)
		}
		row := fleet.Master{InstanceID: "i-" + strings.ToLower(text[:1]), IPAddr: strings.ToLower(text[:1]),
			Status:    fleet.Launch,
			Heartbeat: 7, Incarnation: "x", Ready: text[3] == 'r' || text[3] == 'd',
			Draining: strings.ContainsAny(text[3:4], "dD"), MasterKeySHA256: strings.Trim(text[4:], "0"),
			// The hour of another host says nothing.
			Modified: fleet.FormatTime(start.Add(time.Duration(rand.IntN(48)-24) * time.Hour))}
		if text[3] == 'T' {
			row.Status = fleet.Terminate
		}
		if text[:1] == strings.ToUpper(text[:1]) {
			sight.Listed = append(sight.Listed, row.IPAddr)
		}
		if n := len(rows); n < len(s.zones) {
			row.Zone = s.zones[n : n+1]
		}
		sight.Answers[row.IPAddr] = text[2] == 'a'
		rows = append(rows, row)
		if text[1] == 'b' {
			rows[len(rows)-1].Heartbeat = -1 // moves, see after
		}
	}
	sight.Listed = append(sight.Listed, s.extra...)
	return rows, sight
}

// after is the table as it was read n times 5 s after the start.
func after(rows []fleet.Master, n int) []fleet.Master {
	rows = slices.Clone(rows)
	for i := range rows {
		if rows[i].Heartbeat < 0 {
			rows[i].Heartbeat = int64(100 + n)
		}
	}
	return rows
}

// seen returns the decision of a watch that has read the table for a while.
func (s scene) seen(t *testing.T, order Order, looks int) Decision {
	t.Helper()
	rows, sight := s.read(t)
	follow, err := ParseFollow(cmp.Or(s.follow, "1"))
	if err != nil {
		t.Fatal(err)
	}
	w := NewWatch("minion", order, follow)
	for n := range looks {
		now := start.Add(time.Duration(n) * 5 * time.Second)
		sight.Masters = after(rows, n)
		w.Observe(sight.Masters, sight.Listed, now)
		if d := w.Decide(sight, now); n == looks-1 {
			return d
		}
	}
	panic("unreachable")
}

// Each rule, and what it must not do. The order is sorted, so that a list is
// written as its letters.
func TestRules(t *testing.T) {
	const once, twice, long = 1, 2, 4
	for _, test := range []struct {
		name  string
		scene scene
		looks int
		want  string // the list, or "hold: …"
	}{
		{"all is well", scene{masters: "Abar1, Bbar1"}, long, "a b"},
		{"the listed order stays", scene{masters: "Bbar1, Abar1"}, long, "b a"},

		{"joins when ready", scene{masters: "Abar1, bbar1"}, long, "a b"},
		{"joins at first sight, for it answers", scene{masters: "Abar1, bbar1"}, once, "a b"},
		{"not when it is not ready", scene{masters: "Abar1, bban1"}, long, "a"},
		{"not with another key", scene{masters: "Abar1, bbar2"}, long, "a"},
		{"not without a key", scene{masters: "Abar1, bbar0"}, long, "a"},
		{"not when it does not answer", scene{masters: "Abar1, bb-r1"}, long, "a"},
		{"not when it was ready before it died", scene{masters: "Abar1, bs-r1"}, long, "a"},
		{"not when only its bridge died", scene{masters: "Abar1, bsar1"}, long, "a"},
		{"not when terminated", scene{masters: "Abar1, bbaT1"}, long, "a"},

		{"leaves when its row says TERMINATE", scene{masters: "Abar1, BbaT1"}, once, "a"},
		{"leaves when it neither beats nor answers", scene{masters: "Abar1, Bs-r1"}, long, "a"},
		{"stays while its bridge is away", scene{masters: "Abar1, Bsar1"}, long, "a b"},
		{"stays while it does not answer, but its bridge beats", scene{masters: "Abar1, Bb-r1"}, long, "a b"},
		{"stays until its heartbeat was seen to stand still", scene{masters: "Abar1, Bs-r1"}, once, "a b"},
		{"and that for longer than a beat takes", scene{masters: "Abar1, Bs-r1"}, twice, "a b"},
		{"leaves when it was seen not to be ready twice", scene{masters: "Abar1, Bban1"}, twice, "a"},
		{"not at first sight: its bridge may have restarted", scene{masters: "Abar1, Bban0"}, once, "a b"},
		{"but at first sight if it does not answer", scene{masters: "Abar1, Bb-n1"}, once, "a"},
		{"leaves for one whose bridge is away, which was ready", scene{masters: "Asar1, Bban1"}, long, "a"},
		{"leaves for one that joins", scene{masters: "Aban1, bbar1"}, long, "b"},
		{"not when nobody is ready", scene{masters: "Aban1, Bban1"}, long, "a b"},
		{"not when the only other one drains", scene{masters: "Aban1, Bbad1"}, long, "a b"},
		{"not for one that died just now", scene{masters: "Ab-r1, Bban1"}, long, "a b"},
		{"nor when first seen", scene{masters: "As-r1, Bban1"}, once, "a b"},
		{"nor does one that drains leave for it", scene{masters: "As-r1, Bbad1"}, once, "a b"},
		{"but that one leaves", scene{masters: "As-r1, Bbad1"}, long, "b"},
		{"leaves when it drains", scene{masters: "Abar1, Bbad1"}, once, "a"},
		{"not when all drain", scene{masters: "Abad1, Bbad1"}, long, "a b"},
		{"the last one stays, though it drains", scene{masters: "AbaT1, Bbad1"}, once, "b"},
		{"one that drains does not join", scene{masters: "Abad1, bbad1"}, long, "a"},
		{"unless there is nobody at all", scene{masters: "abad1, bbaT1"}, long, "a"},
		{"or those listed are dead", scene{masters: "abad1, Bs-r1"}, long, "a"},
		{"or terminated", scene{masters: "abad1, BbaT1"}, once, "a"},
		{"or have another key", scene{masters: "abad1, Bbar2"}, once, "a"},
		{"or are neither ready nor answer", scene{masters: "abad1, Bb-n1"}, once, "a"},
		{"or drain, and neither are ready nor answer", scene{masters: "abad1, Bb-D1"}, once, "a"},
		{"not if it does not answer itself", scene{masters: "ab-d1, BbaT1"}, long,
			"hold: no master would be left: b terminated"},
		{"nor if it is not ready", scene{masters: "abaD1, Bb-n1"}, once, "b"},
		{"nor for one that is not ready, but answers", scene{masters: "abad1, Bban1"}, long, "b"},
		{"nor for two of which one answers", scene{masters: "abad1, Bban1, Cb-n1"}, once, "b c"},
		{"one that drains stays, one that is neither ready nor answers leaves",
			scene{masters: "Ab-n1, Bbad1"}, long, "b"},
		{"so for several", scene{masters: "Ab-n1, Bbad1, cbad1, Dban1"}, long, "b d"},
		{"nor does it keep out one that joins", scene{masters: "abad1, bbar1"}, long, "b"},
		{"leaves when its key is another", scene{masters: "Abar1, Bbar2"}, once, "a"},

		{"the last one stays, not ready and silent as it is", scene{masters: "Ab-n1"}, long,
			"hold: no master would be left: a is not ready and does not answer"},
		{"the last one stays, dead as it is", scene{masters: "As-r1"}, long,
			"hold: no master would be left: a its heartbeat has stopped and it does not answer"},
		{"and terminated as it is", scene{masters: "AbaT1"}, long, "hold: no master would be left: a terminated"},
		{"but goes when another comes", scene{masters: "AbaT1, bbar1"}, once, "b"},
		{"two at once are held", scene{masters: "AbaT1, BbaT1, Cbar1"}, once,
			"hold: 2 masters would leave at once, which must be seen twice: a terminated, b terminated"},
		{"and go when seen twice", scene{masters: "AbaT1, BbaT1, Cbar1"}, twice, "c"},
		{"two dead are held when first seen", scene{masters: "As-r1, Bs-r1, Cbar1"}, 3,
			"hold: 2 masters would leave at once, which must be seen twice: a its heartbeat has stopped and it does not answer, b its heartbeat has stopped and it does not answer"},
		{"nobody joins meanwhile", scene{masters: "AbaT1, BbaT1, cbar1"}, once,
			"hold: 2 masters would leave at once, which must be seen twice: a terminated, b terminated"},

		{"no table", scene{}, long, "hold: the fleet's table of masters is empty"},
		{"no table, but a list", scene{extra: []string{"a"}}, long, "hold: the fleet's table of masters is empty"},
		{"nobody is ready", scene{masters: "aban1, bs-r1"}, long,
			"hold: no master is ready that this minion could trust and reach"},
		{"an answer without the row of one that is listed", scene{masters: "Abar1", extra: []string{"b"}}, long, "a b"},

		{"first boot", scene{masters: "abar1, bbar1", trusted: "none"}, once, "a b"},
		{"first boot, two minds", scene{masters: "abar1, bbar2", trusted: "none"}, long,
			"hold: masters have different keys (i-a, i-b), and the minion has met none of them yet"},
		{"first boot, the other one is not ready", scene{masters: "abar1, bban2", trusted: "none"}, long, "a"},
		{"first boot, the other one is dead", scene{masters: "abar1, bs-r2", trusted: "none"}, long, "a"},
		{"first boot, no key said", scene{masters: "abar0", trusted: "none"}, long,
			"hold: no master is ready that this minion could trust and reach"},
		{"listed, but not met yet, two minds", scene{masters: "Abar1, bbar2", trusted: "none"}, long,
			"hold: masters have different keys (i-a, i-b), and the minion has met none of them yet"},

		// What moves least.
		{"the current one stays first when another leaves", scene{masters: "Abar1, Bbar1, CbaT1", current: "b"}, once,
			"b a"},
		{"unless it leaves itself", scene{masters: "Abar1, BbaT1, Cbar1", current: "b"}, once, "a c"},
		{"it stays first when one joins behind", scene{masters: "Abar1, Bbar1, cbar1", current: "b"}, once, "b a c"},
		{"one that joins takes its share", scene{masters: "abar1, Bbar1, Cbar1", current: "c"}, once, "a b c"},
		{"one that does not answer goes last", scene{masters: "Ab-r1, Bbar1, CbaT1", current: "a"}, once, "b a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := test.scene.seen(t, Sorted, test.looks)
			got := strings.Join(d.List.Addresses(), " ")
			if d.Hold != "" {
				got = "hold: " + d.Hold
			}
			if got != test.want {
				t.Errorf("got %q, want %q; joined %v, left %v", got, test.want, d.Joined, d.Left)
			}
		})
	}
}

// An address that no row names any more goes once it was silent for long.
func TestRowlessLeavesLate(t *testing.T) {
	rows, sight := scene{masters: "Abar1", extra: []string{"b"}}.read(t)
	w := NewWatch("minion", Sorted, FollowOne)
	for at := time.Duration(0); ; at += time.Minute {
		now := start.Add(at)
		sight.Masters = after(rows, int(at/time.Second))
		w.Observe(sight.Masters, sight.Listed, now)
		if ask := w.Probes(sight); !slices.Equal(ask, []string{"b"}) {
			t.Fatalf("after %v asks %v", at, ask)
		}
		d := w.Decide(sight, now)
		if gone := d.Left["b"] != ""; gone != (at >= rowlessFor) {
			t.Fatalf("after %v: left %v", at, d.Left)
		}
		if at > rowlessFor {
			break
		}
	}
	sight.Answers["b"] = true
	if d := w.Decide(sight, start.Add(time.Hour)); d.Changed() {
		t.Errorf("it answers, and left all the same: %v", d.Left)
	}
}

// While all is well nobody is asked.
func TestAsksOnlyInDoubt(t *testing.T) {
	for masters, want := range map[string][]string{
		"Abar1, Bbar1":               nil,
		"Abar1, Bban1":               {"a", "b"}, // b leaves only for one that answers
		"Abar1, Bbad1, cban1":        {"a", "b"},
		"Abar1, Bs-r1":               {"b"},
		"Abar1, bbar1, cban1, dbaT1": {"b"},
		"abar2":                      {"a"},
	} {
		rows, sight := scene{masters: masters}.read(t)
		w := NewWatch("minion", Sorted, FollowOne)
		for n := range 4 {
			sight.Masters = after(rows, n)
			w.Observe(sight.Masters, sight.Listed, start.Add(time.Duration(n)*5*time.Second))
		}
		if got := w.Probes(sight); !slices.Equal(got, want) {
			t.Errorf("%s: asks %v, want %v", masters, got, want)
		}
	}
}

// G5: whatever fleet a minion sees, in whatever sequence, its list is never
// empty, has each address once, and holds none that may not be on it.
func TestG5_NeverEmpty(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(from string) string { i := random.IntN(len(from)); return from[i : i+1] }
	writes, holds := 0, 0
	for range 2000 {
		w := NewWatch("minion", Orders()[random.IntN(2)], Follow(random.IntN(4)))
		var listed []string
		now := start
		for range 8 {
			var masters []string
			for _, id := range "abcdef"[:random.IntN(7)] {
				masters = append(masters, string(id)+pick("bs")+pick("aa-")+pick("rrrndDT")+pick("111120"))
			}
			s := scene{masters: strings.Join(masters, ",")}
			if random.IntN(4) == 0 {
				s.trusted = "none"
			}
			rows, sight := s.read(t)
			now = now.Add(time.Duration(random.IntN(90)) * time.Second)
			sight.Masters, sight.Listed = after(rows, random.IntN(1000)), listed
			w.Observe(sight.Masters, listed, now)
			d := w.Decide(sight, now)
			if d.Hold != "" {
				holds++
				continue
			}
			got := d.List.Addresses()
			if len(got) == 0 || len(slices.Compact(slices.Sorted(slices.Values(got)))) != len(got) {
				t.Fatalf("list %v of %v, listed %v", got, masters, listed)
			}
			for _, row := range sight.Masters {
				if slices.Contains(got, row.IPAddr) && (row.Status == fleet.Terminate ||
					sight.Trusted != "" && row.MasterKeySHA256 == "2") {
					t.Fatalf("list %v holds %+v", got, row)
				}
			}
			if !d.Changed() && !slices.Equal(got, listed) {
				t.Fatalf("the order alone changed: %v, listed %v", got, listed)
			}
			listed = got
			writes++
		}
	}
	if writes < 1000 || holds < 1000 {
		t.Errorf("%d lists and %d holds: the fleets are all of one kind", writes, holds)
	}
}

// One master that is lost sets only its own minions moving, wherever the minions
// are by then: they may have failed over without us.
func TestOneLostMovesOnlyItsMinions(t *testing.T) {
	masters := []string{"A", "B", "C", "D"}
	for i := range 400 {
		current := strings.ToLower(masters[i%4])
		w := NewWatch(fmt.Sprintf("i-%d", i), Spread, FollowOne)
		rows, sight := scene{masters: "Abar1, Bbar1, CbaT1, Dbar1", current: current}.read(t)
		sight.Masters = after(rows, 0)
		w.Observe(sight.Masters, sight.Listed, start)
		d := w.Decide(sight, start)
		if first := d.List.Addresses()[0]; current != "c" && first != current {
			t.Fatalf("minion %d moves from %s to %s", i, current, first)
		}
	}
}

// What a minion follows that follows several at once.
func TestFollowsSeveral(t *testing.T) {
	for _, test := range []struct {
		name  string
		scene scene
		want  string
	}{
		{"two of three", scene{masters: "abar1, bbar1, cbar1", follow: "2"}, "a b"},
		{"as many as there are", scene{masters: "abar1, bbar1", follow: "3"}, "a b"},
		{"all", scene{masters: "abar1, bbar1, cbar1", follow: "all"}, "a b c"},
		{"in two zones", scene{masters: "abar1, bbar1, cbar1", follow: "2", zones: "xxy"}, "a c"},
		{"in three zones", scene{masters: "abar1, bbar1, cbar1, dbar1, ebar1", follow: "3", zones: "xxyyz"}, "a c e"},
		{"three in two zones", scene{masters: "abar1, bbar1, cbar1, dbar1", follow: "3", zones: "xxyy"}, "a b c"},
		{"zones that are not known", scene{masters: "abar1, bbar1, cbar1", follow: "2", zones: "x"}, "a b"},
		{"the listed order stays", scene{masters: "Bbar1, Abar1, cbar1", follow: "2"}, "b a"},
		{"a dead one leaves, and another joins", scene{masters: "As-r1, Bbar1, cbar1", follow: "2"}, "b c"},
		{"one that drains leaves, and another joins", scene{masters: "Abar1, Bbad1, cbar1", follow: "2"}, "a c"},
		{"one that comes first joins, and another leaves", scene{masters: "Bbar1, Cbar1, abar1", follow: "2"}, "a b"},
		{"one that comes later does not", scene{masters: "Abar1, Bbar1, cbar1", follow: "2"}, "a b"},
		{"one that does not answer goes last", scene{masters: "Ab-r1, bbar1", follow: "2"}, "b a"},
		{"the last one stays", scene{masters: "As-r1", follow: "2"},
			"hold: no master would be left: a its heartbeat has stopped and it does not answer"},
	} {
		d := test.scene.seen(t, Sorted, 4)
		got := strings.Join(d.List.Addresses(), " ")
		if d.Hold != "" {
			got = "hold: " + d.Hold
		} else if !d.List.hot {
			t.Errorf("%s: the list is not of masters that are followed at once", test.name)
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q; joined %v, left %v", test.name, got, test.want, d.Joined, d.Left)
		}
	}
}
