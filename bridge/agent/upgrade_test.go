package agent

import (
	"slices"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// older takes out of rows what bridges of before did not write.
func older(rows []fleet.Master, ids ...string) []fleet.Master {
	for i := range rows {
		if slices.Contains(ids, rows[i].InstanceID) {
			rows[i].PublishPort, rows[i].RetPort, rows[i].Zone, rows[i].Minions, rows[i].Draining, rows[i].Relay = 0, 0,
				"", 0, false, ""
		}
	}
	return rows
}

// Bridges are upgraded one after the other, and say more of their masters each. No
// minion is hurried by that, moves, or is without a master on its list; it is
// restarted once at most.
func TestBridgesAreUpgraded(t *testing.T) {
	for _, follow := range []Follow{FollowOne, 2} {
		old := []string{"i-00000001", "i-00000002", "i-00000003"}
		settled(t, 3, func(w *world, s *simAgent) {
			s.Follow = follow
			w.minions = 300
			for i, m := range w.masters {
				m.ports, m.zone = Ports{4505, 4506}, string("aab"[i])
			}
			w.broken = func(rows []fleet.Master) ([]fleet.Master, error) { return older(rows, old...), nil }
		}, func(w *world, s *simAgent) {
			began, to := time.Now(), s.minion.master()
			if n := len(s.minion.since(w.began)); n != 1 {
				t.Fatalf("%d restarts at its start", n)
			}
			for len(old) > 0 {
				w.set(func() { old = old[1:] })
				wait(3 * time.Minute)
				if listed := must(s.file.Read()); follow == FollowOne && len(listed.Masters) != 3 ||
					follow == 2 && len(listed.Masters) != 2 {
					t.Errorf("%d bridges are old: listed %+v", len(old), listed)
				}
				if m := s.minion.master(); m == "" || follow == FollowOne && m != to {
					t.Errorf("%d bridges are old: on %q, before on %q", len(old), m, to)
				}
			}
			wait(7 * time.Hour)
			if n := len(s.minion.since(began)); n > 1 {
				t.Errorf("follow %v: %d restarts\n%s", follow, n, s.log)
			}
		})
	}
}

// A minion of masters whose bridges say neither ports nor zone nor minions is
// served by another when its own dies.
func TestOldBridgesOnly(t *testing.T) {
	for _, follow := range []Follow{FollowOne, 2} {
		settled(t, 3, func(w *world, s *simAgent) { s.Follow = follow }, func(w *world, s *simAgent) {
			m := s.die(w, true)
			wait(oneLeftMost + time.Minute)
			listed := addressesOf(must(s.file.Read()).Masters)
			if to := s.minion.master(); to == "" || to == m.address || slices.Contains(listed, m.address) {
				t.Errorf("follow %v: on %q, listed %v\n%s", follow, to, listed, s.log)
			}
		})
	}
}
