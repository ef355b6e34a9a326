package e2e_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"phoenix/bridge/fleet/sqlite"
	"phoenix/lab"
)

const (
	// moving bounds how long a minion may answer no master while it moves: 4 s on a
	// machine with nothing else to do, and a minion's start takes ten times as long
	// beside other tests.
	moving = time.Minute
	// hookHolds is how long the test lets a retired master live on, as its
	// terminating lifecycle hook does at least: deletes are paced, one a minute.
	hookHolds = 20 * time.Second
)

// TestInstanceRefresh: both of two masters are replaced, one after the other, as
// an instance refresh that launches before it terminates does it. All the while
// each minion answers a living master, or has not for less than 30 s; no highstate
// is run again. It takes minutes, since no agent restarts its minion more often than
// once a minute.
func TestInstanceRefresh(t *testing.T) {
	t.Parallel()
	const version = lab.Salt3007
	l := lab.New(t)
	r := rolling{lab: l, longest: map[string]time.Duration{}}
	first := l.StartMaster(lab.MasterOptions{Version: version})
	first.Ready()
	r.masters = []*lab.Master{first, l.StartMaster(lab.MasterOptions{Version: version, KeyFrom: first})}
	r.masters[1].Ready()
	ids := []string{"web-1", "web-2", "web-3"}
	r.served = lab.NewReachability(ids...)
	for _, m := range r.masters {
		r.bridge(m)
	}
	for _, id := range ids {
		r.bridges[0].Phoenix("minions", "add", id)
		m := l.StartMinion(lab.MinionOptions{ID: id, Masters: r.masters, Failover: true})
		r.agents = append(r.agents, l.StartAgent(lab.AgentOptions{Minion: m, Interval: 10 * time.Second}))
	}
	r.lab.Eventually(within, "all highstates are on record", func() (bool, string) {
		rows := r.bridges[1].Minions()
		done := 0
		for _, id := range ids {
			if rows[id].HighstateRan {
				done++
			}
		}
		return done == len(ids), fmt.Sprintf("%+v", rows)
	})
	r.listed()
	r.answered()
	r.served.Gaps() // from here on it counts

	for range 2 {
		r.replace(t, first)
	}
	for id, gap := range r.served.Gaps() {
		gap = max(gap, r.longest[id])
		t.Logf("%s answered no master for %.1f s at most", id, gap.Seconds())
		if gap >= moving {
			t.Errorf("%s was not served for %v", id, gap)
		}
	}
	for _, a := range r.agents {
		if a.Minion.Runs() != 1 {
			t.Errorf("the highstate of %s ran %d times: %+v", a.Minion.ID, a.Minion.Runs(), a.Minion.RunLog())
		}
	}
}

// rolling is a fleet whose masters are replaced, the oldest first.
type rolling struct {
	lab     *lab.Lab
	masters []*lab.Master // those that live
	bridges []*lab.Bridge // theirs
	agents  []*lab.Agent
	served  *lab.Reachability
	longest map[string]time.Duration // time alone, by minion
}

func (r *rolling) bridge(m *lab.Master) {
	b := r.lab.StartBridge(lab.BridgeOptions{Master: m})
	b.Ready()
	r.bridges = append(r.bridges, b)
	r.served.From(m)
}

// replace launches a master, and ends the oldest once its instance's termination
// was told of.
func (r *rolling) replace(t *testing.T, key *lab.Master) {
	t.Helper()
	m := r.lab.StartMaster(lab.MasterOptions{Version: key.Salt.Version, KeyFrom: key})
	m.Ready()
	r.masters = append(r.masters, m)
	r.bridge(m)
	r.listed()
	r.answered()

	// What the queue writes when AutoScaling says that the instance terminates.
	store, err := sqlite.Open(t.Context(), filepath.Join(r.lab.Dir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.RetireMaster(t.Context(), r.masters[0].ID); err != nil {
		t.Fatal(err)
	}
	r.lab.Never(hookHolds, "a minion is alone for too long", func() (bool, string) {
		for id, gap := range r.served.Gaps() {
			if r.longest[id] = max(r.longest[id], gap); gap >= moving {
				return true, id
			}
		}
		return false, ""
	})
	r.masters[0].Kill()
	r.bridges[0].Kill()
	r.masters, r.bridges = r.masters[1:], r.bridges[1:]
	r.listed()
	r.answered()
}

// listed waits until each minion was restarted with the list of all masters that
// live, and with no other.
func (r *rolling) listed() {
	var want []string
	for _, m := range r.masters {
		want = append(want, m.Addr)
	}
	slices.Sort(want)
	r.lab.Eventually(within, "the agents list the masters that live", func() (bool, string) {
		for _, a := range r.agents {
			list := slices.Sorted(slices.Values(a.Listed()))
			if !slices.Equal(list, want) || a.Owed() {
				return false, fmt.Sprintf("%s: %v, not %v\n%s", a.Minion.ID, list, want, a.Tail())
			}
		}
		return true, ""
	})
}

// answered waits until each minion answers a master that lives.
func (r *rolling) answered() {
	begun := time.Now()
	r.lab.Eventually(within, "each minion answers a master that lives", func() (bool, string) {
		for _, a := range r.agents {
			last := r.served.Last(a.Minion.ID)
			lives := slices.ContainsFunc(r.masters, func(m *lab.Master) bool { return m.Name == last.Master })
			if !lives || last.At.Before(begun) {
				return false, fmt.Sprintf("%s answered %s %v ago\n%s", a.Minion.ID, last.Master,
					time.Since(last.At), a.Tail())
			}
		}
		return true, ""
	})
}
