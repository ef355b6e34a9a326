package agent

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

// agents is how many share the fleet of TestThousandAgents.
const agents = 1000

// TestThousandAgents: in a fleet of three masters the agents read the masters at
// most once a minute each; restarts are spread out; and who is lost, or joins,
// moves its own minions only.
func TestThousandAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		fleetOf := make([]*simAgent, agents)
		for i := range fleetOf {
			s := w.newAgent(t, fmt.Sprintf("i-%017x", i), nil)
			fleetOf[i] = s
			running.Go(func() { s.run(ctx, t) })
		}
		f := thousand{w, fleetOf}
		wait(5 * time.Minute)
		if load := f.load(); len(load) != 3 {
			t.Fatalf("minions by master: %v", load)
		}
		t.Logf("minions by master: %v", f.load())
		f.quiet(t)

		t.Log("a master is told to end; it answers still")
		f.change(t, func() { w.masters[2].status = fleet.Terminate }, "10.0.0.3", agents, 40)

		t.Log("a master is killed")
		before, killed := f.where(), time.Now()
		w.set(func() { w.masters[0].died = time.Now() })
		wait(45 * time.Second)
		var served []time.Duration
		for i, s := range f.agents {
			switch to := s.minion.master(); {
			case to != "10.0.0.2":
				t.Fatalf("minion %d is on %q", i, to)
			case before[i] == "10.0.0.1":
				served = append(served, s.minion.served.Sub(killed))
			}
		}
		t.Log(sum("minions of the killed master, from death to served", served))
		wait(4 * time.Minute)
		f.quiet(t)

		t.Log("a master joins")
		w.join()
		before = f.where()
		joined := time.Now()
		wait(4 * time.Minute)
		share := 0
		for i, to := range f.where() {
			if to == "10.0.0.4" {
				share++
			} else if to != before[i] {
				t.Fatalf("minion %d went from %s to %s", i, before[i], to)
			}
		}
		if share < agents/2*8/10 || share > agents/2*12/10 {
			t.Errorf("the new master's share is %d", share)
		}
		t.Logf("its share is %d; %s", share, f.spread(t, joined, 40))
		f.quiet(t)
		cancel()
		running.Wait()
	})
}

type thousand struct {
	w      *world
	agents []*simAgent
}

func (f thousand) where() []string {
	var to []string
	for _, s := range f.agents {
		to = append(to, s.minion.master())
	}
	return to
}

func (f thousand) load() map[string]int {
	load := map[string]int{}
	for _, to := range f.where() {
		load[to]++
	}
	return load
}

// quiet checks ten minutes in which nothing happens: no restart, and the store is
// asked at most once a minute by each.
func (f thousand) quiet(t *testing.T) {
	t.Helper()
	from := time.Now()
	wait(10 * time.Minute)
	reads := 0
	for i, s := range f.agents {
		at := s.store.between(from, time.Now())
		reads += len(at)
		for j := range max(len(at)-1, 0) {
			if apart := at[j+1].Sub(at[j]); apart < time.Minute {
				t.Fatalf("agent %d reads twice in %v", i, apart)
			}
		}
		if n := len(s.minion.since(from)); n > 0 {
			t.Fatalf("agent %d restarts its minion %d times while all is well\n%s", i, n, s.log)
		}
	}
	t.Logf("10 quiet minutes: %d reads of the masters by %d agents, no restart", reads, agents)
}

// change makes a change that moves the minions of one master only, and restarts
// so many, of which at most so many begin within one second.
func (f thousand) change(t *testing.T, change func(), lost string, restarts, perSecond int) {
	t.Helper()
	before, from := f.where(), time.Now()
	f.w.set(change)
	wait(4 * time.Minute)
	for i, to := range f.where() {
		if before[i] != lost && to != before[i] || to == lost {
			t.Fatalf("minion %d went from %s to %s", i, before[i], to)
		}
	}
	n := 0
	for _, s := range f.agents {
		n += len(s.minion.since(from))
	}
	if n != restarts {
		t.Errorf("%d restarts, want %d", n, restarts)
	}
	t.Log(f.spread(t, from, perSecond))
}

// spread says how restarts since then are spread out.
func (f thousand) spread(t *testing.T, from time.Time, perSecond int) string {
	t.Helper()
	var after []time.Duration
	at := map[int64]int{}
	most := 0
	for _, s := range f.agents {
		for _, restart := range s.minion.since(from) {
			after = append(after, restart.Sub(from))
			at[restart.Unix()]++
			most = max(most, at[restart.Unix()])
		}
	}
	if most > perSecond {
		t.Errorf("%d restarts in one second", most)
	}
	return sum("restarts after the change", after) + fmt.Sprintf("; at most %d in one second", most)
}
