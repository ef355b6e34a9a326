package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

// with runs one agent in a bubble.
func with(t *testing.T, masters int, before func(w *world, s *simAgent), test func(w *world, s *simAgent)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(masters)
		s := w.newAgent(t, "minion", nil)
		if before != nil {
			before(w, s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.run(ctx, t) })
		test(w, s)
		cancel()
		running.Wait()
		if t.Failed() {
			t.Log(s.log)
		}
	})
}

// wait lets time pass in the bubble.
func wait(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func TestFirstBoot(t *testing.T) {
	with(t, 2, nil, func(w *world, s *simAgent) {
		wait(shortSplay + startsWithin)
		if s.minion.master() == "" || len(s.minion.since(w.began)) != 1 {
			t.Errorf("on %q after %d restarts: nobody serves it, so it is urgent", s.minion.master(),
				len(s.minion.since(w.began)))
		}
		wait(10 * time.Minute)
		if n := len(s.minion.since(w.began)); n != 1 {
			t.Errorf("%d restarts", n)
		}
	})
}

// An instance may be up before its masters are: it is served some seconds after the
// first of them is ready.
func TestFirstBootBeforeTheMasters(t *testing.T) {
	notYet := func(w *world, _ *simAgent) {
		for _, m := range w.masters {
			m.ready = false
		}
	}
	with(t, 2, notYet, func(w *world, s *simAgent) {
		wait(40 * time.Second)
		if n := len(s.minion.since(w.began)); n != 0 {
			t.Fatalf("%d restarts, and no master is ready", n)
		}
		w.set(func() {
			for _, m := range w.masters {
				m.ready = true
			}
		})
		if wait(checkEvery + shortSplay + startsWithin); s.minion.master() == "" {
			t.Errorf("nobody serves it yet\n%s", s.log)
		}
	})
}

// settled is an agent whose minion has been served for long.
func settled(t *testing.T, masters int, before func(w *world, s *simAgent), test func(w *world, s *simAgent)) {
	t.Helper()
	with(t, masters, before, func(w *world, s *simAgent) {
		wait(5 * time.Minute)
		if s.minion.master() == "" {
			t.Fatalf("nobody serves the minion\n%s", s.log)
		}
		test(w, s)
	})
}

// die ends the master that the minion is on, and its bridge.
func (s *simAgent) die(w *world, vanish bool) *simMaster {
	m, _ := w.lives(s.minion.master())
	w.set(func() { m.died, m.vanished = time.Now(), vanish })
	return m
}

// drain marks the master that the minion is on.
func (s *simAgent) drain(w *world) *simMaster {
	m, _ := w.lives(s.minion.master())
	w.set(func() { m.draining = true })
	return m
}

func TestFollowsTheLiving(t *testing.T) {
	for _, vanish := range []bool{false, true} {
		settled(t, 2, nil, func(w *world, s *simAgent) {
			died := time.Now()
			m := s.die(w, vanish)
			wait(45 * time.Second)
			if to := s.minion.master(); to == "" || to == m.address {
				t.Fatalf("still on %q", to)
			}
			took := s.minion.served.Sub(died)
			t.Logf("vanished %v: served after %v", vanish, took)
			if took > 40*time.Second {
				t.Errorf("served after %v", took)
			}
		})
	}
}

// A bridge that is away moves nobody, and neither does a master without its bridge
// or a store that nobody reaches.
func TestG5_HoldsStill(t *testing.T) {
	for name, change := range map[string]func(w *world, m *simMaster){
		"the bridge is away": func(w *world, m *simMaster) { m.bridgeDied = time.Now() },
		"no bridge is ready": func(w *world, m *simMaster) {
			for _, m := range w.masters {
				m.ready, m.key = false, ""
			}
		},
		"all drain": func(w *world, m *simMaster) {
			for _, m := range w.masters {
				m.draining = true
			}
		},
		"the store is away": func(w *world, m *simMaster) {
			w.broken = func([]fleet.Master) ([]fleet.Master, error) { return nil, fleet.ErrUnavailable }
			m.died = time.Now() // even so
		},
		"the table is empty": func(w *world, m *simMaster) {
			w.broken = func([]fleet.Master) ([]fleet.Master, error) { return nil, nil }
			m.died = time.Now()
		},
		"rows and an error": func(w *world, m *simMaster) {
			w.broken = func(rows []fleet.Master) ([]fleet.Master, error) {
				return rows[:1],
					errors.New("page 2: timeout")
			}
		},
		"a row is missing": func(w *world, m *simMaster) {
			w.broken = func(rows []fleet.Master) ([]fleet.Master, error) {
				return slices.DeleteFunc(rows, func(r fleet.Master) bool { return r.InstanceID == m.id }), nil
			}
		},
		"no addresses": func(w *world, m *simMaster) {
			w.broken = func(rows []fleet.Master) ([]fleet.Master, error) {
				for i := range rows {
					rows[i].IPAddr = "no-ip-yet"
				}
				return rows, nil
			}
		},
		"clocks are an hour off": func(w *world, m *simMaster) {
			w.broken = func(rows []fleet.Master) ([]fleet.Master, error) {
				for i := range rows {
					rows[i].Modified = fleet.FormatTime(time.Now().Add(time.Duration(i*2-1) * time.Hour))
				}
				return rows, nil
			}
		},
		"all are dead": func(w *world, m *simMaster) {
			for _, m := range w.masters {
				m.died = time.Now()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, check := newTree(t) // a real file: its inode and times are looked at
				w := newWorld(3)
				s := w.newAgent(t, "minion", d)
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { s.run(ctx, t) })
				wait(5 * time.Minute)
				before, changed := identity(t, d.Path()), time.Now()
				m, _ := w.lives(s.minion.master())
				w.set(func() { change(w, m) })
				wait(5 * time.Minute)
				if after := identity(t, d.Path()); after != before {
					t.Errorf("the file was touched: %s, before %s\n%s", after, before, s.log)
				}
				if n := len(s.minion.since(changed)); n > 0 {
					t.Errorf("%d restarts\n%s", n, s.log)
				}
				check()
				cancel()
				running.Wait()
			})
		})
	}
}

// While the current master does not answer the table is read every 4 s, for two
// minutes; then as always.
func TestReadsAreBounded(t *testing.T) {
	settled(t, 1, nil, func(w *world, s *simAgent) {
		died := time.Now()
		s.die(w, true) // the last one: it stays on the list
		wait(10 * time.Minute)
		reads := s.store.between(died, died.Add(2*time.Minute))
		for i := range reads[1:] {
			if apart := reads[i+1].Sub(reads[i]); apart < recheckEvery {
				t.Errorf("reads %v apart", apart)
			}
		}
		if len(reads) < 15 || len(reads) > failingReads {
			t.Errorf("%d reads in the first two minutes", len(reads))
		}
		if late := s.store.between(died.Add(3*time.Minute), died.Add(9*time.Minute)); len(late) > 6 {
			t.Errorf("%d reads in 6 minutes, later on", len(late))
		}
	})
}

func TestJobsPutARestartOff(t *testing.T) {
	for _, test := range []struct {
		name     string
		fun      string
		die      bool
		from, to time.Duration // the restart, after the change
	}{
		{"a job", "cmd.run", false, 8 * time.Minute, 9 * time.Minute},
		{"a job, and the master is gone", "cmd.run", true, 0, 45 * time.Second},
		{"a highstate, and the master is gone", "state.highstate", true, 8 * time.Minute, 9 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			settled(t, 2, nil, func(w *world, s *simAgent) {
				changed := time.Now()
				s.minion.mu.Lock()
				s.minion.jobs = []Job{{JID: "1", Funs: []string{test.fun}}}
				s.minion.mu.Unlock()
				if test.die {
					s.die(w, false)
				} else {
					s.drain(w)
				}
				wait(8 * time.Minute)
				s.minion.mu.Lock()
				s.minion.jobs = nil
				s.minion.mu.Unlock()
				wait(2 * time.Minute)
				restarts := s.minion.since(changed)
				if len(restarts) != 1 || restarts[0].Sub(changed) < test.from || restarts[0].Sub(changed) > test.to {
					t.Errorf("restarts %v after %v", restarts, changed)
				}
			})
		})
	}
}

// A command that fails is tried again, and the file is not written again.
func TestFailedRestartDoesNotWriteAgain(t *testing.T) {
	settled(t, 2, nil, func(w *world, s *simAgent) {
		changed := time.Now()
		writes := s.file.(*memory).writes
		s.minion.mu.Lock()
		s.minion.fail, s.minion.tried = 5, 0
		s.minion.mu.Unlock()
		s.drain(w)
		wait(10 * time.Minute)
		if n := s.file.(*memory).writes - writes; n != 1 {
			t.Errorf("written %d times", n)
		}
		if len(s.minion.since(changed)) != 1 || s.minion.tried != 6 || s.file.(*memory).pending.Pending {
			t.Errorf("%d restarts after %d tries, owed %v", len(s.minion.since(changed)), s.minion.tried,
				s.file.(*memory).pending.Pending)
		}
	})
}

// An agent that was killed between its write and the restart leaves the pending to
// the next one.
func TestG8_NextAgentRestartsWhatIsOwed(t *testing.T) {
	with(t, 2, func(w *world, s *simAgent) {
		if _, err := s.file.Write(NewList(master("i-00000001", "10.0.0.1"), master("i-00000002", "10.0.0.2")),
			Running{}, ""); err != nil {
			t.Fatal(err)
		}
		s.minion.connect([]string{"10.0.0.1"})
		w.broken = func([]fleet.Master) ([]fleet.Master, error) { return nil, fleet.ErrUnavailable } // even so
		s.Settle = time.Minute
	}, func(w *world, s *simAgent) {
		wait(2 * time.Minute)
		if n := len(s.minion.since(w.began)); n != 1 ||
			!slices.Equal(s.minion.running, []string{"10.0.0.1", "10.0.0.2"}) {
			t.Errorf("%d restarts, the minion runs with %v", n, s.minion.running)
		}
	})
}

// A minion that has failed over by itself is not hurried, and stays where it is.
func TestFailedOverByItself(t *testing.T) {
	settled(t, 3, nil, func(w *world, s *simAgent) {
		m := s.die(w, false)
		wait(time.Second)
		s.minion.connect(slices.DeleteFunc(slices.Clone(s.minion.running),
			func(a string) bool { return a == m.address }))
		to := s.minion.master()
		wait(5 * time.Minute)
		if got := s.minion.master(); got != to {
			t.Errorf("moved from %s to %s", to, got)
		}
		if slices.Contains(s.minion.running, m.address) || s.minion.running[0] != to {
			t.Errorf("runs with %v", s.minion.running)
		}
	})
}

// The steady state says nothing.
func TestSilentWhileAllIsWell(t *testing.T) {
	settled(t, 2, nil, func(w *world, s *simAgent) {
		before := s.log.Len()
		wait(24 * time.Hour)
		if said := s.log.String()[before:]; said != "" {
			t.Error(said)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	s := newWorld(1).newAgent(t, "minion", nil)
	for want, spoil := range map[string]func(o *Options){
		"minion id": func(o *Options) { o.MinionID = "" },
		"order":     func(o *Options) { o.Order = "random" },
		"interval":  func(o *Options) { o.Interval = time.Second },
		"splay":     func(o *Options) { o.Splay = -1 },
		"missing":   func(o *Options) { o.Masters = nil },
	} {
		o := s.options
		spoil(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestDryRunDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, check := newTree(t)
		w := newWorld(2)
		w.join().key = "other"
		w.join().ready = false
		s := w.newAgent(t, "minion", d)
		s.minion.trusts = "key"
		a, err := New(s.options)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := a.DryRun(t.Context(), d.Path(), &out); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"i-00000001 at 10.0.0.1: would be added",
			"i-00000003 at 10.0.0.3: has another key", "i-00000004 at 10.0.0.4: is not ready", "would write",
			"would run"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("does not say %q:\n%s", want, &out)
			}
		}
		if _, err := os.Stat(d.Path()); err == nil || s.minion.tried > 0 {
			t.Error("did something")
		}
		check()
	})
}

// sum is one line of figures.
func sum(what string, took []time.Duration) string {
	slices.Sort(took)
	if len(took) == 0 {
		return what + ": none"
	}
	return fmt.Sprintf("%s: %d, p50 %v, p99 %v, max %v", what, len(took), took[len(took)/2].Round(100*time.Millisecond),
		took[len(took)*99/100].Round(100*time.Millisecond), took[len(took)-1].Round(100*time.Millisecond))
}
