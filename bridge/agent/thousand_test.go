//go:build !race

// A bubble with this many timers ends the race detector itself now and then (Go
// 1.26.8: "CHECK failed: tsan_rtl.cpp", or a fault in runtime.(*timer).maybeRunChan).
// So it is run without; lab/test does. What it runs is tried with the detector by
// the other tests.

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

const (
	// agents is how many share the fleet of TestThousandAgents.
	agents = 1000
	// atOnce of them run in one bubble. The race detector itself fails now and then
	// on a thousand goroutines ("CHECK failed: tsan_rtl.cpp:346", Go 1.26): it has
	// room for 255. An agent knows of the others by the store alone, and the clocks
	// of bubbles begin alike, so ten bubbles tell what one would.
	atOnce = 100
	// together is how many minions may begin a restart within one second, while
	// nobody is without a master.
	together = 40
)

// acts of TestThousandAgents, one after the other.
var acts = []struct {
	name   string
	change func(w *world)
	lasts  time.Duration
}{
	{"three masters are there", nil, 5 * time.Minute},
	{"nothing happens", nil, 10 * time.Minute},
	{"a master is told to end; it answers still", func(w *world) { w.masters[2].status = fleet.Terminate }, 4 * time.Minute},
	{"a master is killed", func(w *world) { w.masters[0].died = time.Now() }, 45 * time.Second},
	{"its minions were served by now", nil, 4 * time.Minute},
	{"nothing happens again", nil, 10 * time.Minute},
	{"a master joins", func(w *world) { w.add() }, 4 * time.Minute},
	{"nothing happens any more", nil, 10 * time.Minute},
}

// thousand is what became of all agents, by the number of the act.
type thousand struct {
	agents       []*simAgent
	begun, ended [8]time.Time
	after        [8][]string    // where each minion was at the end
	served       [8][]time.Time // since when
}

// TestThousandAgents: in a fleet of three masters the agents read the masters at
// most once a minute each; restarts are spread out; and who is lost, or joins,
// moves its own minions only.
func TestThousandAgents(t *testing.T) {
	var f thousand
	for len(f.agents) < agents {
		synctest.Test(t, func(t *testing.T) { f.play(t) })
	}
	const settled, quiet, told, killed, late, again, joined, last = 0, 1, 2, 3, 4, 5, 6, 7
	if load := f.load(settled); len(load) != 3 {
		t.Fatalf("minions by master: %v", load)
	}
	t.Logf("minions by master: %v", f.load(settled))
	for _, act := range []int{quiet, again, last} {
		f.quiet(t, act)
	}

	if n := f.restarts(told, told); n != agents {
		t.Errorf("%d restarts, want one of each", n)
	}
	f.moved(t, told, "10.0.0.3", "")
	t.Log(f.spread(t, told, told, together))

	var took []time.Duration
	for i, served := range f.served[killed] {
		if f.after[told][i] == "10.0.0.1" {
			took = append(took, served.Sub(f.begun[killed]))
		}
	}
	f.moved(t, killed, "10.0.0.1", "10.0.0.2")
	t.Log(sum("minions of the killed master, from death to served", took))
	// Those of the killed master are in haste, and spread over the short splay.
	t.Log(f.spread(t, killed, late, together+len(took)/int(shortSplay.Seconds())))

	share := f.load(joined)["10.0.0.4"]
	if share < agents/2*8/10 || share > agents/2*12/10 {
		t.Errorf("the new master's share is %d", share)
	}
	for i, to := range f.after[joined] {
		if to != "10.0.0.4" && to != f.after[again][i] {
			t.Errorf("minion %d went from %s to %s", i, f.after[again][i], to)
		}
	}
	t.Logf("its share is %d; %s", share, f.spread(t, joined, joined, together))
}

// play runs the next agents through all acts, in a bubble.
func (f *thousand) play(t *testing.T) {
	w := newWorld(3)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	bubble := make([]*simAgent, atOnce)
	for i := range bubble {
		s := w.newAgent(t, fmt.Sprintf("i-%017x", len(f.agents)+i), nil)
		bubble[i] = s
		running.Go(func() { s.run(ctx, t) })
	}
	for i, act := range acts {
		f.begun[i] = time.Now()
		if act.change != nil {
			w.set(func() { act.change(w) })
		}
		wait(act.lasts)
		f.ended[i] = time.Now()
		for _, s := range bubble {
			to, since := s.minion.where()
			f.after[i] = append(f.after[i], to)
			f.served[i] = append(f.served[i], since)
		}
	}
	cancel()
	running.Wait()
	f.agents = append(f.agents, bubble...)
}

func (f *thousand) load(act int) map[string]int {
	load := map[string]int{}
	for _, to := range f.after[act] {
		load[to]++
	}
	return load
}

// quiet checks an act in which nothing happens: no restart, and the store is
// asked at most once a minute by each.
func (f *thousand) quiet(t *testing.T, act int) {
	t.Helper()
	reads := 0
	for i, s := range f.agents {
		at := s.store.between(f.begun[act], f.ended[act])
		reads += len(at)
		for j := range max(len(at)-1, 0) {
			if apart := at[j+1].Sub(at[j]); apart < time.Minute {
				t.Fatalf("agent %d reads twice in %v", i, apart)
			}
		}
		if n := len(s.minion.between(f.begun[act], f.ended[act])); n > 0 {
			t.Fatalf("agent %d restarts its minion %d times while all is well\n%s", i, n, s.log)
		}
	}
	t.Logf("%s for %v: %d reads of the masters by %d agents, no restart", acts[act].name, acts[act].lasts, reads, agents)
}

// moved checks that only minions of the master that was lost went elsewhere in an
// act, and none stayed; to: where all are now, if that is one master.
func (f *thousand) moved(t *testing.T, act int, lost, to string) {
	t.Helper()
	for i, now := range f.after[act] {
		before := f.after[act-1][i]
		if before != lost && now != before || now == lost || now == "" || to != "" && now != to {
			t.Fatalf("%s: minion %d went from %q to %q", acts[act].name, i, before, now)
		}
	}
}

func (f *thousand) restarts(from, to int) (n int) {
	for _, s := range f.agents {
		n += len(s.minion.between(f.begun[from], f.ended[to]))
	}
	return n
}

// spread says how restarts of these acts are spread out, and checks how many fall
// into one second at most.
func (f *thousand) spread(t *testing.T, from, to, limit int) string {
	t.Helper()
	var after []time.Duration
	at := map[int64]int{}
	for _, s := range f.agents {
		for _, restart := range s.minion.between(f.begun[from], f.ended[to]) {
			after = append(after, restart.Sub(f.begun[from]))
			at[restart.Unix()]++
		}
	}
	most := 0
	for _, n := range at {
		most = max(most, n)
	}
	if most > limit {
		t.Errorf("%s: %d restarts in one second", acts[from].name, most)
	}
	return sum(acts[from].name+": restarts", after) + fmt.Sprintf("; at most %d in one second", most)
}
