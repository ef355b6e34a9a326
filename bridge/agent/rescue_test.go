package agent

import (
	"slices"
	"testing"
	"time"
)

// hang makes the minion lose its connection without trying again.
func (m *simMinion) hang() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.to = nil
}

// TestStrandedMinion: a minion that hangs beside a master that answers is restarted with
// the list that it has; one that was never accepted is not, nor one whose process ended.
func TestStrandedMinion(t *testing.T) {
	for name, test := range map[string]struct {
		before   func(m *simMinion)
		restarts int
	}{
		"hangs":          {func(m *simMinion) {}, 1},
		"never accepted": {func(m *simMinion) { m.trusts = "" }, 0},
		"ended":          {func(m *simMinion) { m.ended = true }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			settled(t, 1, nil, func(w *world, s *simAgent) {
				s.minion.mu.Lock()
				test.before(s.minion)
				s.minion.mu.Unlock()
				hung := time.Now()
				s.minion.hang()
				if wait(strandedAfter - checkEvery); len(s.minion.since(hung)) > 0 {
					t.Errorf("restarted at %v, it hangs since %v", s.minion.since(hung), hung)
				}
				wait(3*checkEvery + shortSplay + startsWithin)
				if n := len(s.minion.since(hung)); n != test.restarts {
					t.Errorf("%d restarts", n)
				}
				if test.restarts > 0 && s.minion.master() == "" {
					t.Error("nobody serves it")
				}
				wait(time.Hour)
				if n := len(s.minion.since(hung)); n != test.restarts {
					t.Errorf("%d restarts in an hour", n)
				}
			})
		})
	}
}

// A minion that restarts do not help, since its key is deleted, is restarted ever more
// rarely.
func TestStrandedMinionIsRestartedRarely(t *testing.T) {
	settled(t, 1, nil, func(w *world, s *simAgent) {
		hung := time.Now()
		s.minion.mu.Lock()
		s.minion.slow = 10000 * time.Hour // never connected
		s.minion.mu.Unlock()
		s.minion.hang()
		wait(24 * time.Hour)
		if n := len(s.minion.since(hung)); n < 20 || n > 30 {
			t.Errorf("%d restarts in a day", n)
		}
	})
}

// TestUrgentRestartLooksAgain: the minion connects between the check that found it
// without a master and the restart. Then it is served and runs a job, which only an urgent
// restart interrupts. The restart that it still needs for its list is due at a random
// moment, and may be due at once.
func TestUrgentRestartLooksAgain(t *testing.T) {
	for range 20 { // the splay is random
		with(t, 2, nil, func(w *world, s *simAgent) {
			wait(time.Millisecond) // after the first check
			s.minion.mu.Lock()
			s.minion.to = slices.Clone([]string{w.masters[0].address})
			s.minion.trusts = "key"
			s.minion.jobs = []Job{{JID: "1", Funs: []string{"cmd.run"}}}
			s.minion.mu.Unlock()
			wait(3 * shortSplay)
			if n := len(s.minion.since(w.began.Add(2 * time.Millisecond))); n != 0 {
				t.Errorf("%d restarts of a minion that has just connected", n)
			}
		})
	}
}

// TestReturnOfTheOnlyMaster: minions whose only master was away for minutes connect to it by
// themselves, and are not restarted for that.
func TestReturnOfTheOnlyMaster(t *testing.T) {
	settled(t, 1, nil, func(w *world, s *simAgent) {
		list := addressesOf(must(s.file.Read()).Masters)
		left := time.Now()
		m := s.die(w, false)
		s.minion.hang()
		wait(5 * time.Minute)
		w.set(func() { m.died = time.Time{} })
		wait(40 * time.Second) // what Salt needs
		s.minion.connect(list)
		wait(10 * time.Minute)
		if n := len(s.minion.since(left)); n != 0 || s.minion.master() == "" {
			t.Errorf("%d restarts, on %q", n, s.minion.master())
		}
	})
}
