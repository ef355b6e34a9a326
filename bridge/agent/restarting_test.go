package agent

import (
	"slices"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// A host needs 40 s until its minion is connected, and meanwhile masters come and go. Those
// that it was started with live, so it is left to start.
func TestSlowHostIsLeftToStart(t *testing.T) {
	settled(t, 4, func(w *world, s *simAgent) { s.minion.slow, s.Interval = 40*time.Second, MinInterval },
		func(w *world, s *simAgent) {
			s.die(w, false)
			wait(30 * time.Second) // it was restarted with the three others
			at := s.minion.since(time.Now().Add(-30 * time.Second))
			if len(at) != 1 || s.minion.master() != "" {
				t.Fatalf("restarts %v, on %q", at, s.minion.master())
			}
			listed := must(s.file.Read()).Masters
			w.set(func() {
				i := slices.IndexFunc(w.masters,
					func(m *simMaster) bool { return m.address == listed[len(listed)-1].Address })
				w.masters[i].status = fleet.Terminate
			})
			for wait(time.Second); s.minion.master() == "" && time.Since(at[0]) < 5*time.Minute; wait(time.Second) {
			}
			if n, took := len(s.minion.since(at[0])), time.Since(at[0]); n != 1 ||
				took > startsWithin+s.minion.slow+5*time.Second {
				t.Errorf("%d restarts, served after %v", n, took)
			}
		})
}

// What is left of a wait.
func TestRemaining(t *testing.T) {
	const m, h = time.Minute, time.Hour
	for _, test := range []struct{ least, most, spread, waited, want time.Duration }{
		{0, 6 * h, m, 0, 6 * h},
		{0, 6 * h, m, 2 * h, 4 * h},
		{0, 6 * h, m, 6*h - time.Second, m},
		{0, 6 * h, m, 100 * h, m},
		{5 * m, 15 * m, m, 3 * m, 12 * m},
		{5 * m, 15 * m, m, h, 6 * m},
		{0, time.Second, m, h, time.Second}, // agent.settle is shorter than agent.splay
		{0, 6 * h, m, -h, 6 * h},            // the clock was set back
	} {
		if got := remaining(test.least, test.most, test.spread, test.waited); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
