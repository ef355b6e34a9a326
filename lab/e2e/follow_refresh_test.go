package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"phoenix/lab"
)

// restarts is how often each minion was restarted so far.
func (f *following) restarts() map[string]int {
	n := map[string]int{}
	for id, a := range f.agents {
		n[id] = a.Restarts()
	}
	return n
}

// calm returns the longest time between two answers of any minion while nothing
// happens.
func (f *following) calm() time.Duration {
	f.served.Gaps()
	timer := time.NewTimer(calm)
	<-timer.C
	noise := time.Duration(0)
	for _, gap := range f.served.Gaps() {
		noise = max(noise, gap)
	}
	return noise
}

// midway starts a minion that follows the master which is about to die and another, and
// waits until its first highstate runs.
func (f *following) midway(how string, dying *site) *lab.Minion {
	f.t.Helper()
	other := f.sites[0]
	if other == dying {
		other = f.sites[1]
	}
	id := "new-" + how
	other.bridge.Phoenix("minions", "add", id)
	m := f.lab.StartMinion(lab.MinionOptions{ID: id, Masters: []*lab.Master{dying.master, other.master},
		State: lab.State{Seconds: midway + calm.Seconds()}})
	f.lab.Eventually(within, "the first highstate of "+id+" has begun",
		func() (bool, string) { return m.Runs() == 1, m.Tail() })
	return m
}

// ranOnce waits until the first highstate of a minion is on record, and looks how often
// it ran.
func (f *following) ranOnce(how string, m *lab.Minion) {
	f.t.Helper()
	bridge := f.sites[0].bridge
	f.lab.Eventually(takeover, "the highstate of "+m.ID+" is on record", func() (bool, string) {
		row := bridge.Minions()[m.ID]
		return row.HighstateRan, fmt.Sprintf("%+v; ran %+v", row, m.RunLog())
	})
	if runs := m.RunLog(); len(runs) != 1 || !runs[0].OK {
		f.t.Errorf("%s: the highstate of %s ran %d times: %+v", how, m.ID, len(runs), runs)
	}
	m.Kill()
}

// settleSoon is agent.settle of the refresh: by default it would take hours.
const settleSoon = "20s"

// refresh replaces all masters, one after the other: a new one starts, an old one
// drains, and ends once no agent lists it. Each minion is restarted with its new list,
// which is when it is silent.
func (f *following) refresh() {
	f.t.Helper()
	for id, a := range f.agents {
		a.Stop()
		f.agents[id] = f.agent(a.Minion, settleSoon)
	}
	f.settled()
	restarts := map[string]int{}
	noise := f.calm()
	for range len(f.sites) {
		next := f.site(f.sites[0].master.Salt.Version)
		next.bridge.Ready()
		f.served.From(next.master)
		old := f.sites[0]
		next.bridge.Phoenix("masters", "drain", old.master.ID)
		f.sites = append(f.sites[1:], next)
		f.lab.Eventually(2*within, "no minion lists the master that drains, or runs with it", func() (bool, string) {
			for id, a := range f.agents {
				if slices.Contains(a.Listed(), old.master.Addr) || a.Owed() {
					return false, fmt.Sprintf("%s lists %v\n%s", id, a.Listed(), a.Log())
				}
			}
			return true, ""
		})
		next.bridge.Phoenix("masters", "retire", old.master.ID)
		old.master.Kill()
		old.bridge.Kill()
		f.settled()
	}
	gaps := f.served.Gaps()
	for id, a := range f.agents {
		f.table.add("all replaced", id, noise, gaps[id], a.Restarts()-restarts[id])
	}
}

// followTable is what TestFollowSeveral measures, for docs/agent-behaviour.md.
type followTable struct{ rows []followRow }

type followRow struct {
	how, id    string
	noise, gap time.Duration
	restarts   int
}

func (t *followTable) add(how, id string, noise, gap time.Duration, restarts int) {
	t.rows = append(t.rows, followRow{how, id, noise, gap, restarts})
}

// print logs one line for each way to die and each number of masters followed.
func (t *followTable) print(tb testing.TB, version string) {
	const line = "%-8s  %-12s  %-6v  %-7v  %-16s  %-16s  %s"
	tb.Logf(line, "Salt", "masters", "follow", "minions", "silent before", "silent as it dies", "restarts")
	var hows []string
	for _, r := range t.rows {
		if !slices.Contains(hows, r.how) {
			hows = append(hows, r.how)
		}
	}
	for _, how := range hows {
		for _, follow := range []int{1, 2} {
			var gaps []time.Duration
			noise, restarts := time.Duration(0), 0
			for _, r := range t.rows {
				if r.how == how && follows(r.id) == follow {
					gaps, noise, restarts = append(gaps, r.gap), r.noise, restarts+r.restarts
				}
			}
			if len(gaps) > 0 {
				tb.Logf(line, version, how, follow, len(gaps), fmt.Sprintf("%.1f s", noise.Seconds()),
					fmt.Sprintf("%.1f to %.1f s", slices.Min(gaps).Seconds(), slices.Max(gaps).Seconds()),
					fmt.Sprint(restarts))
			}
		}
	}
}
