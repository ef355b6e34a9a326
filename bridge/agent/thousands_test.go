//go:build !race

// A bubble with this many timers ends the race detector itself now and then (Go
// 1.26.8: "CHECK failed: tsan_rtl.cpp", or a fault in runtime.(*timer).maybeRunChan).
// So it is run without; scripts/test does. What it runs is tried with the detector by
// the other tests.

package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/lab/needs"
)

const (
	// fleetOf is the size of the fleet, as masters' rows tell it to the agents.
	fleetOf = 10_000
	// atOnce of the agents run in one bubble. An agent knows of the others by the
	// store alone, and the clocks of bubbles begin alike, so many bubbles tell what
	// one would.
	atOnce = 100
	// limit is how many authentications a second a master is to be asked for at most.
	limit = 50
	// simSettle is agent.settle here.
	simSettle = time.Hour
	// endsAfter is what a master has from the word that it ends to its end: what a
	// spot instance is given.
	endsAfter = 2 * time.Minute
)

// sampled is how many agents of the fleet are run: a fiftieth in "make
// test"; PHOENIX_AGENTS=10000 runs all, for the table in docs/agent-behaviour.md (minutes).
func sampled() int {
	if n, err := strconv.Atoi(os.Getenv("PHOENIX_AGENTS")); err == nil && n >= atOnce {
		return n
	}
	return 200
}

// act is one thing that happens to the fleet, as steps with the time after each.
type act struct {
	name  string
	steps []step
}

type step struct {
	do   func(w *world)
	wait time.Duration
}

func (w *world) at(i int) *simMaster { return w.masters[i] }

// leaves are the steps of a master's end in order.
func leaves(i int) []step {
	return []step{
		{func(w *world) { w.at(i).draining = true }, endsAfter},
		{func(w *world) { w.at(i).status, w.at(i).died = fleet.Terminate, time.Now() }, 10 * time.Minute},
	}
}

func joins(after time.Duration) step { return step{func(w *world) { w.add() }, after} }

// acts of the simulation, one after the other. Masters 1 to 3 are there.
var acts = []act{
	{"three masters, all minions start", []step{{nil, 10 * time.Minute}}},
	{"nothing happens", []step{{nil, 20 * time.Minute}}},
	{"a fourth master joins", []step{joins(simSettle + 20*time.Minute)}},
	{"a master's packets vanish", []step{{func(w *world) { w.at(0).died, w.at(0).vanished = time.Now(), true },
		simSettle + 20*time.Minute}}},
	{"it comes back", []step{{func(w *world) { w.at(0).died = time.Time{} }, simSettle + 20*time.Minute}}},
	{"a master drains, and ends", append(leaves(1), step{nil, simSettle})},
	{"its replacement joins", []step{joins(simSettle + 20*time.Minute)}},
	{"all four are replaced, one by one", slices.Concat(
		[]step{joins(10 * time.Minute)}, leaves(0), []step{joins(10 * time.Minute)}, leaves(2),
		[]step{joins(10 * time.Minute)}, leaves(3), []step{joins(10 * time.Minute)}, leaves(4),
		[]step{{nil, simSettle}})},
}

// thousands is what became of the agents, by the number of the act.
type thousands struct {
	agents []*simAgent
	begun  []time.Time
	ended  []time.Time
	after  [][][]string // where each minion was at the end
	served [][]time.Time
}

// play runs the next agents through all acts, in a bubble.
func (f *thousands) play(t *testing.T, change func(*simAgent)) {
	w := newWorld(3)
	w.minions = fleetOf
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	bubble := make([]*simAgent, atOnce)
	for i := range bubble {
		s := w.newAgent(t, fmt.Sprintf("i-%017x", len(f.agents)+i), nil)
		s.Settle = simSettle
		change(s)
		bubble[i] = s
		running.Go(func() { s.run(ctx, t) })
	}
	for i, act := range acts {
		begun := time.Now()
		for _, step := range act.steps {
			if step.do != nil {
				w.set(func() { step.do(w) })
			}
			wait(step.wait)
		}
		if len(f.after) <= i {
			f.begun, f.ended = append(f.begun, begun), append(f.ended, time.Now())
			f.after, f.served = append(f.after, nil), append(f.served, nil)
		}
		for _, s := range bubble {
			s.minion.mu.Lock()
			f.after[i] = append(f.after[i], slices.Clone(s.minion.to))
			f.served[i] = append(f.served[i], s.minion.served)
			s.minion.mu.Unlock()
		}
	}
	cancel()
	running.Wait()
	f.agents = append(f.agents, bubble...)
}

// figures of one act, for the whole fleet.
type figures struct {
	restarts, moved int
	most            int // authentications of a master in one second
	within          time.Duration
}

func (f *thousands) figures(act int) (n figures) {
	scale := fleetOf / len(f.agents)
	asked := map[string]map[int64]int{}
	for i, s := range f.agents {
		for _, at := range s.minion.between(f.begun[act], f.ended[act]) {
			n.restarts += scale
			n.within = max(n.within, at.Sub(f.begun[act]))
		}
		if act > 0 && !sameMasters(f.after[act][i], f.after[act-1][i]) {
			n.moved += scale
		}
		for master, times := range s.minion.asked {
			if asked[master] == nil {
				asked[master] = map[int64]int{}
			}
			for _, at := range times {
				if !at.Before(f.begun[act]) && !at.After(f.ended[act]) {
					asked[master][at.Unix()]++
				}
			}
		}
	}
	// A sample is looked at in stretches that hold as many as a second of the whole
	// fleet does.
	for _, seconds := range asked {
		for at := range seconds {
			sum := 0
			for s := range int64(scale) {
				sum += seconds[at+s]
			}
			n.most = max(n.most, sum)
		}
	}
	return n
}

// TestThousandAgents: what agents of a fleet of ten thousand do to it when masters
// join, die, come back, drain and are replaced. docs/agent-behaviour.md has the table.
func TestThousandAgents(t *testing.T) {
	needs.More(t, "minutes of a core")
	for _, follow := range []Follow{FollowOne, 2} {
		t.Run("follow "+follow.String(), func(t *testing.T) {
			var f thousands
			for len(f.agents) < sampled() {
				synctest.Test(t, func(t *testing.T) { f.play(t, func(s *simAgent) { s.Follow = follow }) })
			}
			f.check(t, follow)
		})
	}
}

func (f *thousands) check(t *testing.T, follow Follow) {
	const started, quiet, joined, lost, back, drained, replaced, refreshed = 0, 1, 2, 3, 4, 5, 6, 7
	for act := range acts {
		n := f.figures(act)
		t.Logf("%-36s %6d restarts, %6d moved, at most %3d authentications in a second, the last restart after %v",
			acts[act].name, n.restarts, n.moved, n.most, n.within.Round(time.Second))
		if act > started && n.most > limit {
			t.Errorf("%s: a master is asked for %d authentications in one second", acts[act].name, n.most)
		}
		if act > started && n.within > acts[act].lasts() {
			t.Errorf("%s: restarts after %v", acts[act].name, n.within)
		}
	}
	reads := 0
	for i, s := range f.agents {
		at := s.store.between(f.begun[quiet], f.ended[quiet])
		reads += len(at)
		for j := range max(len(at)-1, 0) {
			if apart := at[j+1].Sub(at[j]); apart < time.Minute {
				t.Fatalf("agent %d reads twice in %v", i, apart)
			}
		}
		if n := len(s.minion.between(f.begun[quiet], f.ended[quiet])); n > 0 {
			t.Fatalf("agent %d restarts its minion %d times while all is well\n%s", i, n, s.log)
		}
	}
	t.Logf("nothing happens for %v: %d reads of the masters by %d agents", acts[quiet].lasts(), reads, len(f.agents))
	for act := range acts {
		for i, to := range f.after[act] {
			if len(to) != int(follow) {
				t.Fatalf("%s: minion %d is connected to %v\n%s", acts[act].name, i, to, f.agents[i].log)
			}
		}
	}
	var took []time.Duration
	for i, served := range f.served[lost] {
		if follow == FollowOne && slices.Contains(f.after[joined][i], "10.0.0.1") {
			took = append(took, served.Sub(f.begun[lost]))
		}
	}
	if follow == FollowOne {
		t.Log(sum("minions of the master whose packets vanished, until they were served", took))
	}
	// One that leaves, or joins, moves its share.
	for act, share := range map[int]int{joined: 4, lost: 4, back: 4, drained: 4, replaced: 4} {
		want := fleetOf * int(follow) / share
		if n := f.figures(act).moved; n < want*7/10 || n > want*13/10 {
			t.Errorf("%s: %d minions moved, of which %d had to", acts[act].name, n, want)
		}
	}
}

func (a act) lasts() (d time.Duration) {
	for _, s := range a.steps {
		d += s.wait
	}
	return d
}
