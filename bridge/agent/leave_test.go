package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// A master that drains is left before it ends, while it still serves: what a spot
// instance is given is two minutes.
func TestLeavesBeforeTheEnd(t *testing.T) {
	settled(t, 3, nil, func(w *world, s *simAgent) {
		told := time.Now()
		m := s.drain(w)
		wait(endsIn - startsWithin)
		restarts := s.minion.since(told)
		if to := s.minion.master(); to == "" || to == m.address || len(restarts) != 1 {
			t.Fatalf("on %q after %d restarts", to, len(restarts))
		}
		w.set(func() { m.status, m.died = fleet.Terminate, time.Now() })
		wait(time.Hour)
		if n := len(s.minion.since(told)); n != 1 {
			t.Errorf("%d restarts", n)
		}
	})
}

const endsIn = 2 * time.Minute

// The master that all turned to dies while the one that drains still serves: better
// that one than none. It is left again when another is ready.
func TestTurnsBackToOneThatDrains(t *testing.T) {
	settled(t, 2, nil, func(w *world, s *simAgent) {
		draining := s.drain(w)
		wait(3 * time.Minute)
		if to := s.minion.master(); to == draining.address {
			t.Fatalf("on %q, which drains", to)
		}
		s.die(w, true)
		wait(45 * time.Second)
		if to := s.minion.master(); to != draining.address {
			t.Fatalf("on %q, and only %s serves", to, draining.address)
		}
		joined := w.join()
		wait(3 * time.Minute)
		if to := s.minion.master(); to != joined.address {
			t.Errorf("on %q, and %s is ready", to, joined.address)
		}
	})
}

// A master that drains, and serves, is not left for one that died just before,
// which its row does not show yet.
func TestStaysWhereTheOtherDied(t *testing.T) {
	settled(t, 2, nil, func(w *world, s *simAgent) {
		to := s.minion.master()
		other := w.masters[0]
		if other.address == to {
			other = w.masters[1]
		}
		reads := s.store.between(w.began, time.Now())
		wait(time.Until(reads[len(reads)-1].Add(59 * time.Second))) // the next comes soon
		w.set(func() { other.died = time.Now() })
		told := time.Now()
		m := s.drain(w)
		wait(5 * time.Minute)
		if now, n := s.minion.master(), len(s.minion.since(told)); now != m.address || n > 0 {
			t.Errorf("on %q after %d restarts\n%s", now, n, s.log)
		}
	})
}

// A master whose workers are gone, or which was stopped, takes connections still.
// Its bridge says that it is not ready.
func TestLeavesTheHung(t *testing.T) {
	settled(t, 2, nil, func(w *world, s *simAgent) {
		hung := time.Now()
		m, _ := w.lives(s.minion.master())
		w.set(func() { m.hung = true })
		wait(15 * time.Second)
		if to := s.minion.master(); to != m.address || len(s.minion.since(hung)) > 0 {
			t.Fatalf("on %q: its row says that it is ready", to)
		}
		w.set(func() { m.ready = false }) // its bridge has seen it
		wait(20 * time.Second)
		if to := s.minion.master(); to == "" || to == m.address {
			t.Fatalf("on %q\n%s", to, s.log)
		}
		t.Logf("served after %v, 15 s of which its row said that it is ready", s.minion.served.Sub(hung))
		// It comes back, and fetches nobody in a hurry.
		logged := s.log.Len()
		w.set(func() { m.hung, m.ready = false, true })
		back := time.Now()
		wait(10 * time.Minute)
		// The moment of the restart is chance within agent.settle: it may be an early one.
		if n := len(s.minion.since(back)); n > 1 ||
			!slices.Contains(addressesOf(must(s.file.Read()).Masters), m.address) {
			t.Errorf("%d restarts, listed %v", n, must(s.file.Read()))
		}
		for line := range strings.Lines(s.log.String()[logged:]) {
			if strings.Contains(line, "restart of the minion scheduled") &&
				!strings.Contains(line, `why="the list changed, and its master serves it"`) {
				t.Errorf("in a hurry: %s", line)
			}
		}
		wait(6 * time.Hour)
		if n := len(s.minion.since(back)); n != 1 {
			t.Errorf("%d restarts within agent.settle", n)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// One row that nobody can read changes nothing for the others.
func TestG12_BadRowBlindsNoAgent(t *testing.T) {
	broken := func(w *world, s *simAgent) {
		w.broken = func(rows []fleet.Master) ([]fleet.Master, error) {
			return rows, &fleet.BadRowsError{Rows: map[string]error{"i-bad": errors.New("row i-bad: heartbeat is no number")}}
		}
	}
	settled(t, 2, broken, func(w *world, s *simAgent) {
		m := s.die(w, true)
		wait(45 * time.Second)
		if to := s.minion.master(); to == "" || to == m.address {
			t.Errorf("still on %q", to)
		}
		if n := strings.Count(s.log.String(), "i-bad"); n != 1 {
			t.Errorf("said %d times that a row is bad\n%s", n, s.log)
		}
	})
}

// late lets no restart that may wait be due within a test: its moment is drawn from
// the whole of that time, and one in 120 of those drawn from 6 hours is in the first
// 3 minutes.
func late(_ *world, s *simAgent) { s.Settle = 10_000 * time.Hour }

// Who is restarted by others has read the list that is there: it is not restarted
// again.
func TestRestartedByOthers(t *testing.T) {
	settled(t, 2, late, func(w *world, s *simAgent) {
		changed := time.Now()
		w.join()
		wait(3 * time.Minute)
		pending := must(s.file.PendingRestart())
		if !pending.Pending || len(s.minion.since(changed)) > 0 {
			t.Fatalf("%+v, %d restarts", pending, len(s.minion.since(changed)))
		}
		s.minion.connect(addressesOf(must(s.file.Read()).Masters))
		wait(7 * time.Hour)
		if pending := must(s.file.PendingRestart()); pending.Pending || len(s.minion.since(changed)) > 0 {
			t.Errorf("%+v, %d restarts\n%s", pending, len(s.minion.since(changed)), s.log)
		}
	})
}

// A list that is again what the minion was started with needs no restart.
func TestListThatComesBack(t *testing.T) {
	settled(t, 3, late, func(w *world, s *simAgent) {
		changed, before := time.Now(), s.minion.running
		other, _ := w.lives(before[2])
		w.set(func() { other.ready = false })
		wait(3 * time.Minute)
		if listed := addressesOf(must(s.file.Read()).Masters); len(listed) != 2 ||
			!must(s.file.PendingRestart()).Pending {
			t.Fatalf("listed %v, pending %+v", listed, must(s.file.PendingRestart()))
		}
		w.set(func() { other.ready = true })
		wait(7 * time.Hour)
		pending := must(s.file.PendingRestart())
		if listed := addressesOf(must(s.file.Read()).Masters); !slices.Equal(listed, before) ||
			pending.Pending || len(s.minion.since(changed)) > 0 {
			t.Errorf("listed %v, before %v, pending %v, %d restarts\n%s", listed, before, pending.Pending,
				len(s.minion.since(changed)), s.log)
		}
	})
}

// followsTwo is settled for a minion that follows two masters of three.
func followsTwo(t *testing.T, test func(w *world, s *simAgent)) {
	t.Helper()
	settled(t, 3, func(w *world, s *simAgent) { s.Follow = 2 }, test)
}

// Of two masters that a minion follows one dies: it leaves the file, and the minion
// is restarted some minutes later. If it comes back before, the minion is not
// restarted at all.
func TestOneOfTwoDies(t *testing.T) {
	for _, returns := range []bool{false, true} {
		followsTwo(t, func(w *world, s *simAgent) {
			died := time.Now()
			if len(s.minion.running) != 2 || len(s.minion.to) != 2 {
				t.Fatalf("runs with %v, connected to %v", s.minion.running, s.minion.to)
			}
			m := s.die(w, true)
			wait(20 * time.Second)
			if listed := addressesOf(must(s.file.Read()).Masters); len(listed) != 2 ||
				slices.Contains(listed, m.address) {
				t.Errorf("listed %v", listed)
			}
			wait(oneLeftLeast - 30*time.Second)
			if n := len(s.minion.since(died)); n > 0 {
				t.Fatalf("%d restarts\n%s", n, s.log)
			}
			if returns {
				w.set(func() { m.died = time.Time{} })
			}
			wait(oneLeftMost)
			if n := len(s.minion.since(died)); returns && n > 0 || !returns && n != 1 {
				t.Errorf("returns %v: %d restarts\n%s", returns, n, s.log)
			}
		})
	}
}

// Both die: the minion is restarted at once, though the masters on its list answer.
func TestBothOfTwoDie(t *testing.T) {
	followsTwo(t, func(w *world, s *simAgent) {
		first, second := s.minion.running[0], s.minion.running[1]
		for _, address := range []string{first, second} {
			m, _ := w.lives(address)
			w.set(func() { m.died, m.vanished = time.Now(), true })
			wait(30 * time.Second)
		}
		if to := s.minion.master(); to == "" || to == first || to == second {
			t.Errorf("on %q\n%s", to, s.log)
		}
	})
}

// Both drain, one after the other: the minion is restarted while they serve.
func TestBothOfTwoDrain(t *testing.T) {
	followsTwo(t, func(w *world, s *simAgent) {
		first, second := s.minion.running[0], s.minion.running[1]
		for _, address := range []string{first, second} {
			m, _ := w.lives(address)
			w.set(func() { m.draining = true })
			wait(endsIn - startsWithin)
		}
		if to := s.minion.master(); to == "" || to == first || to == second {
			t.Errorf("on %q\n%s", to, s.log)
		}
	})
}

// A minion that is to be left alone is.
func TestHandsOff(t *testing.T) {
	with(t, 2, func(w *world, s *simAgent) {
		s.LeaveAlone = "it follows two masters by itself"
		s.minion.start([]string{"10.0.0.1", "10.0.0.2"}, true)
	}, func(w *world, s *simAgent) {
		wait(time.Hour)
		if listed := must(s.file.Read()); len(listed.Masters) > 0 || len(s.minion.since(w.began)) > 0 {
			t.Errorf("listed %v, %d restarts", listed, len(s.minion.since(w.began)))
		}
		if n := strings.Count(s.log.String(), "by itself"); n != 1 {
			t.Errorf("said so %d times\n%s", n, s.log)
		}
	})
}

// From one to two, and back: the list is written at once, the minion restarted
// within agent.settle.
func TestFollowChanges(t *testing.T) {
	for _, to := range []Follow{2, FollowAll} {
		with(t, 3, func(w *world, s *simAgent) {
			s.Follow = to
			l := NewList(master("i-00000001", "10.0.0.1"), master("i-00000002", "10.0.0.2"),
				master("i-00000003", "10.0.0.3"))
			if _, err := s.file.Write(l, Running{}, ""); err != nil {
				t.Fatal(err)
			}
			if err := s.file.ClearPending(); err != nil {
				t.Fatal(err)
			}
			s.minion.connect(l.Addresses())
		}, func(w *world, s *simAgent) {
			wait(5 * time.Minute)
			listed := must(s.file.Read())
			// The moment of the restart is chance within agent.settle: it may be an early one.
			if want := map[Follow]int{2: 2, FollowAll: 3}[to]; !listed.Hot || len(listed.Masters) != want ||
				len(s.minion.since(w.began)) > 1 {
				t.Fatalf("listed %+v, %d restarts", listed, len(s.minion.since(w.began)))
			}
			wait(7 * time.Hour)
			if len(s.minion.since(w.began)) != 1 || len(s.minion.to) != len(listed.Masters) {
				t.Errorf("%d restarts, connected to %v\n%s", len(s.minion.since(w.began)), s.minion.to, s.log)
			}
		})
	}
}
