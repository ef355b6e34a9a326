package e2e_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"phoenix/lab"
)

const (
	// followers are the minions of TestFollowSeveral that follow two masters, and
	// loners those that follow one. "make follow" has more of the former.
	followers, loners = 3, 2
	manyFollowers     = 6
	// unheard is how long a minion that follows two may be silent as one of them dies. A
	// ping is sent each second.
	unheard = 2 * time.Second
	// calm is how long it is looked, before a master dies, how slow the machine is.
	calm = 15 * time.Second
	// midway is how long the first highstates take in which a master dies.
	midway = 20
	// lately is how old the last answer of a minion that is served may be there.
	lately = 20 * time.Second
)

// salts are the versions of tests that "make test" runs on one alone; "make follow"
// runs them on all.
func salts() (versions []string, all bool) {
	if os.Getenv("PHOENIX_FOLLOW") != "" {
		return lab.Versions(), true
	}
	return []string{lab.Salt3007}, false
}

// TestFollowSeveral: three masters, and minions that follow two of them at once
// beside such that follow one. A master is killed, its packets vanish, it hangs, and
// then all three are replaced: how long is each minion without an answer to a ping each
// second? A first highstate that runs as a master dies is neither lost nor run twice.
func TestFollowSeveral(t *testing.T) {
	t.Parallel()
	versions, all := salts()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			child, err := lab.Isolate("-test.run=^TestFollowSeveral$/^"+regexp.QuoteMeta(version)+"$", "-test.v",
				"-test.timeout=40m")
			if err != nil {
				t.Fatal(err)
			}
			if !child {
				return
			}
			n := followers
			if all {
				n = manyFollowers
			}
			f := newFollowing(t, version, n)
			f.alone = all
			if all { // in make test others kill masters
				f.dies("killed", func(s *site) { s.master.Kill(); s.bridge.Kill() },
					func(s *site) { s.master.Start(); s.master.Ready(); s.bridge.Start() })
			}
			f.dies("vanished", func(s *site) { s.host.Vanish(); s.bridge.Kill() },
				func(s *site) { s.host.Return(); s.bridge.Start() })
			f.dies("hung", func(s *site) { s.master.Signal(syscall.SIGSTOP); s.bridge.Signal(syscall.SIGSTOP) },
				func(s *site) { s.master.Signal(syscall.SIGCONT); s.bridge.Signal(syscall.SIGCONT) })
			if all {
				f.refresh()
			}
			f.table.print(t, version)
		})
	}
}

// site is a master with what belongs to it.
type site struct {
	host   *lab.Host
	master *lab.Master
	bridge *lab.Bridge
}

// following is the fleet of TestFollowSeveral.
type following struct {
	t      *testing.T
	lab    *lab.Lab
	sites  []*site
	agents map[string]*lab.Agent // by minion
	served *lab.Reachability
	table  followTable
	alone  bool // the test has the machine to itself
}

func newFollowing(t *testing.T, version string, n int) *following {
	f := &following{t: t, lab: lab.New(t), agents: map[string]*lab.Agent{}}
	for range 3 {
		f.sites = append(f.sites, f.site(version))
	}
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("two-%d", i+1))
	}
	for i := range loners {
		ids = append(ids, fmt.Sprintf("one-%d", i+1))
	}
	f.served = lab.NewReachability(ids...)
	for _, s := range f.sites {
		s.bridge.Ready()
		f.served.From(s.master)
	}
	for _, id := range ids {
		f.sites[0].bridge.Phoenix("minions", "add", id)
		// It has never met a master, and at the address that it knows there is none.
		m := f.lab.StartMinion(lab.MinionOptions{ID: id, Masters: []*lab.Master{f.sites[0].master},
			Extra: map[string]any{"master": f.lab.Addr()}})
		// Else it may read the list that its agent writes as it starts, and is owed a
		// restart that it does not need.
		f.lab.Eventually(2*time.Minute, id+" has read its configuration", func() (bool, string) {
			return len(m.Grep("Setting up the Salt Minion")) > 0, m.Tail()
		})
		f.agents[id] = f.agent(m, "6h") // as by default: nobody is restarted because something changed
	}
	f.settled()
	for _, id := range ids {
		if !f.agents[id].Owed() {
			continue
		}
		t.Fatalf("%s is owed a restart from the start\n%s", id, f.agents[id].Log())
	}
	return f
}

// site starts a master with a bridge, on a host of its own.
func (f *following) site(version string) *site {
	f.t.Helper()
	s := &site{host: f.lab.NewHost()}
	o := lab.MasterOptions{Version: version, Host: s.host}
	if len(f.sites) > 0 {
		o.KeyFrom = f.sites[0].master
	}
	s.master = f.lab.StartMaster(o)
	s.master.Ready()
	s.bridge = f.lab.StartBridge(lab.BridgeOptions{Master: s.master})
	return s
}

func (f *following) agent(m *lab.Minion, settle string) *lab.Agent {
	f.t.Helper()
	return f.lab.StartAgent(lab.AgentOptions{Minion: m, Interval: 15 * time.Second,
		Env: []string{fmt.Sprintf("PHOENIX_AGENT_FOLLOW=%d", follows(m.ID)), "PHOENIX_AGENT_SETTLE=" + settle}})
}

func follows(id string) int {
	if strings.HasPrefix(id, "two-") {
		return 2
	}
	return 1
}

// settled waits until each minion is served, and has as many masters on its list
// as it should.
func (f *following) settled() {
	f.t.Helper()
	f.lab.Eventually(2*within, "each minion is served, with a full list", func() (bool, string) {
		for id, a := range f.agents {
			want := len(f.sites)
			if follows(id) == 2 {
				want = 2
			}
			if len(a.Listed()) != want || f.served.Last(id).At.IsZero() || time.Since(f.served.Last(id).At) > lately {
				return false, fmt.Sprintf("%s lists %v, last answer %v\n%s", id, a.Listed(), f.served.Last(id), a.Log())
			}
		}
		return true, ""
	})
}

// dies lets the master die that serves the first of the minions that follow one,
// and tells how long each of its minions was silent.
func (f *following) dies(how string, die, revive func(*site)) {
	f.t.Helper()
	on := f.served.Last("one-1").Master
	i := slices.IndexFunc(f.sites, func(s *site) bool { return s.master.Name == on })
	dead := f.sites[i]
	var hit []string // minions that the master serves
	for id, a := range f.agents {
		if follows(id) == 2 && slices.Contains(a.Listed(), dead.master.Addr) ||
			f.served.Last(id).Master == on && follows(id) == 1 {
			hit = append(hit, id)
		}
	}
	slices.Sort(hit)
	restarts := f.restarts()
	var newcomer *lab.Minion
	noise := time.Duration(0)
	if f.alone {
		newcomer = f.midway(how, dead)
		if noise = f.calm(); newcomer.RunLog()[0].Ended {
			f.t.Fatalf("%s: the highstate of %s had ended before the master died: the machine is too slow",
				how, newcomer.ID)
		}
	}
	f.served.Gaps()
	died := time.Now()
	die(dead)
	f.lab.Eventually(within, "the dead master is off all lists, and all are served by others", func() (bool, string) {
		for id, a := range f.agents {
			last := f.served.Last(id)
			if slices.Contains(a.Listed(), dead.master.Addr) || last.Master == on || last.At.Before(died) {
				return false, fmt.Sprintf("%s lists %v, last answer %v\n%s", id, a.Listed(), last, a.Log())
			}
		}
		return true, ""
	})
	f.t.Logf("%s: off all lists, and all served by others, after %.1f s", how, time.Since(died).Seconds())
	gaps := f.served.Gaps()
	for _, id := range hit {
		f.table.add(how, id, noise, gaps[id], f.agents[id].Restarts()-restarts[id])
	}
	for id, gap := range gaps {
		// Beside other tests, and where pings were late before the death too, the figure
		// says how busy the machine is.
		if f.alone && follows(id) == 2 && gap > max(unheard, 2*noise) {
			f.t.Errorf("%s: %s follows two masters, and did not answer for %.1f s (before the death: %.1f s)\n%s",
				how, id, gap.Seconds(), noise.Seconds(), f.agents[id].Log())
		}
	}
	revive(dead)
	dead.master.Ready()
	dead.bridge.Ready()
	if newcomer != nil {
		f.ranOnce(how, newcomer)
	}
	f.settled()
	for id, a := range f.agents {
		if n := a.Restarts() - restarts[id]; follows(id) == 2 && n > 0 || n > 1 {
			f.t.Errorf("%s: %s was restarted %d times\n%s", how, id, n, a.Log())
		}
	}
}
