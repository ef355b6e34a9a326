package lab

import "time"

const (
	// poll is how often Eventually looks.
	poll = 100 * time.Millisecond
	// restMost bounds that pause: a look that waits for its own time limit is long.
	restMost = 5 * time.Second
	// rest is how many times longer it waits than a look took: a look is often a
	// command, and tests that wait at once would keep the machine busy with them.
	rest = 15
)

// Eventually waits until look says true, and fails the test otherwise, with
// what was waited for and the last that was seen instead.
func (l *Lab) Eventually(timeout time.Duration, what string, look func() (ok bool, seen string)) {
	l.tb.Helper()
	Eventually(l.tb, timeout, what, look)
}

// Eventually is [Lab.Eventually] for a test of one's own.
func Eventually(tb TB, timeout time.Duration, what string, look func() (ok bool, seen string)) {
	tb.Helper()
	for start := time.Now(); ; {
		looked := time.Now()
		ok, seen := look()
		if ok {
			return
		}
		if time.Since(start) > timeout {
			tb.Fatalf("waited %v until %s; last seen: %s", timeout, what, seen)
		}
		time.Sleep(min(max(poll, rest*time.Since(looked)), restMost))
	}
}

// Never watches for a while that look stays false, and fails the test when it
// does not. It is for what must not happen; keep it short.
func (l *Lab) Never(duration time.Duration, what string, look func() (happened bool, seen string)) {
	l.tb.Helper()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < duration; <-tick.C {
		if happened, seen := look(); happened {
			l.tb.Fatalf("%s, after %v: %s", what, time.Since(start).Round(poll), seen)
		}
	}
}
