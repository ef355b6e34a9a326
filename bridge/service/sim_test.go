package service

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

// The simulator of the claim protocol. One seed again, with its trace:
//
//	go test ./bridge/service -run TestSimulator -sim.seed 4711
//
// A long run: -sim.seeds 1000000 -timeout 0. "make test" runs 10,000 without the race
// detector, which finds little where one goroutine does it all and takes most of
// the time, and the default with it.
var (
	simSeed  = flag.Uint64("sim.seed", 0, "run this seed of the simulator alone, and print its trace")
	simSeeds = flag.Uint64("sim.seeds", 500, "how many seeds the simulator runs")
)

// maxFaulty: after so many seeds that went wrong the rest shows nothing new.
const maxFaulty = 5

// simulate runs seeds from 1 to n on all processors.
func simulate(n uint64, t twin, end func(seed uint64, w *world) (more bool)) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next, more := uint64(1), true
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				seed := next
				next++
				stop := !more || seed > n
				mu.Unlock()
				if stop {
					return
				}
				w := newWorld(seed, t, false)
				w.live()
				mu.Lock()
				more = end(seed, w) && more
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// real is the protocol as it is.
var real = twin{rule: decide.Highstate}

func TestSimulator(t *testing.T) {
	if *simSeed != 0 {
		w := newWorld(*simSeed, real, true)
		w.live()
		fmt.Println(strings.Join(w.trace, "\n"))
		for _, fault := range w.faults {
			t.Error(fault)
		}
		return
	}
	seeds := *simSeeds
	if testing.Short() {
		seeds = min(seeds, 150)
	}
	begun := time.Now()
	seen, faulty := map[string]int{}, 0
	var simulated time.Duration
	simulate(seeds, real, func(seed uint64, w *world) bool {
		simulated += w.now
		for what, n := range w.seen {
			seen[what] += n
		}
		if len(w.faults) == 0 {
			return true
		}
		t.Errorf("seed %d: %s", seed, strings.Join(w.faults, "\n"))
		if faulty++; faulty == 1 {
			t.Log(explain(seed, real))
		}
		return faulty < maxFaulty
	})
	t.Logf("%d seeds, %v of their time in %v", seeds, simulated.Round(time.Hour),
		time.Since(begun).Round(time.Millisecond))
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%8d  %s", seen[what], what)
	}
	if seeds < 3000 {
		return // too few for what is rare
	}
	// A simulator in which these never happen proves nothing.
	for _, what := range []string{"takeover", "lost race", "lost answer recognised as own",
		"late publish by an old owner",
		"late publish dropped by the minion", "jid dropped by the minion", "jid sent again", "vanished job", "busy",
		"next attempt", "failover: here now",
		"taken up again after a restart of the bridge", "ended by another than its owner", "end not known: no cache",
		"crash before a call", "crash after a call", "stopped world", "connected without a word",
		"jid forgotten by the minion", "queued by the minion", "asked whether it is free again",
		"terminated", "revived",
		"key of a terminated minion deleted", "index lags", "salt-master dead beside its bridge",
		"excepted: late publish",
		"key deleted by hand", "key restored", "published under a jid of the master's own",
		"jid of the master's own recorded",
		"breaker opened", "breaker resumed", "halted by the breaker",
		"excepted: job cache with jids of its own"} {
		if seen[what] == 0 {
			t.Errorf("never happened: %s", what)
		}
	}
}

// explain runs a seed again and gives the end of its trace.
func explain(seed uint64, t twin) string {
	w := newWorld(seed, t, true)
	w.live()
	return "trace of seed " + fmt.Sprint(seed) + ":\n" + strings.Join(w.trace[max(0, len(w.trace)-400):], "\n")
}

// The same seed gives the same run, to the last line.
func TestSimulatorIsDeterministic(t *testing.T) {
	for seed := range uint64(20) {
		a, b := newWorld(seed, real, true), newWorld(seed, real, true)
		a.live()
		b.live()
		if len(a.trace) == 0 || !slices.Equal(a.trace, b.trace) {
			t.Errorf("seed %d: two runs differ", seed)
		}
	}
}

// Protocols that are wrong must be found out, each by the promise that it breaks;
// else the simulator is blind.
func TestSimulatorFindsWhatIsWrong(t *testing.T) {
	const enough = 2000
	for name, wrong := range map[string]struct {
		twin  twin
		finds string
	}{
		"by the clock":                     {twin{rule: byTheClock}, "G2"},
		"gives up at once":                 {twin{rule: givesUpAtOnce}, "G2"},
		"asks nobody":                      {twin{rule: asksNobody}, "G2"},
		"looks at what runs alone":         {twin{rule: runningAlone}, "G2"},
		"sends again what does not run":    {twin{rule: sendsAgain}, "G2"},
		"sends again what has another jid": {twin{rule: ignoresOtherJID}, "G2"},
		"takes an open breaker for closed": {twin{rule: decide.Highstate, ignoresBreaker: true}, "breaker"},
		"forgets what was accepted":        {twin{rule: decide.Highstate, forgets: true}, "by hand"},
	} {
		t.Run(name, func(t *testing.T) {
			tried, broken := 0, 0
			simulate(enough, wrong.twin, func(_ uint64, w *world) bool {
				tried++
				if slices.ContainsFunc(w.faults,
					func(fault string) bool { return strings.HasPrefix(fault, wrong.finds) }) {
					broken++
				}
				return broken < 3
			})
			t.Logf("%d of %d seeds broke %q", broken, tried, wrong.finds)
			if broken == 0 {
				t.Error("it looks as if it were safe")
			}
		})
	}
}

// ignoresOtherJID takes a publish under another jid for none.
func ignoresOtherJID(p decide.Policy, s decide.Self, owner decide.Liveness, c decide.HighstateView,
	now time.Time) decide.Step {
	c.SentAs, c.SentFor = "", ""
	return decide.Highstate(p, s, owner, c, now)
}

// byTheClock calls a claim lost that looks old: by the time in its row and the
// observer's own wall clock. It waits far longer than a job takes.
func byTheClock(p decide.Policy, s decide.Self, owner decide.Liveness, c decide.HighstateView,
	now time.Time) decide.Step {
	r := c.Row
	if r.ClaimState != fleet.Claimed || r.ClaimOwner == s.ID || !c.Accepted || !s.Beating {
		return decide.Highstate(p, s, owner, c, now)
	}
	written, err := fleet.ParseTime(r.Modified)
	switch {
	case err == nil && now.Sub(written) > 5*time.Minute:
		return decide.Step{Act: decide.Finish, Reason: "its claim is old",
			Ended: decide.Ended{JID: r.ClaimJID, Outcome: fleet.Vanished}}
	case now.Sub(c.RowAt) > 30*time.Second:
		return decide.Step{Act: decide.Read, Reason: "another master runs it"}
	}
	return decide.Step{Act: decide.Wait, Reason: "another master runs it", At: c.RowAt.Add(31 * time.Second)}
}

// givesUpAtOnce takes the first "I do not know that jid" for the last word.
func givesUpAtOnce(p decide.Policy, s decide.Self, owner decide.Liveness, c decide.HighstateView,
	now time.Time) decide.Step {
	step := decide.Highstate(p, s, owner, c, now)
	if c.Unknowns > 0 && c.Row.ClaimState == fleet.Claimed && c.Row.ClaimOwner == s.ID && step.Act != decide.Finish {
		return decide.Step{Act: decide.Finish, Reason: "unknown",
			Ended: decide.Ended{JID: c.Row.ClaimJID, Outcome: fleet.Vanished}}
	}
	return step
}

// runningAlone takes a job that does not run for lost: it may wait in a queue, or
// have ended.
func runningAlone(p decide.Policy, s decide.Self, owner decide.Liveness, c decide.HighstateView,
	now time.Time) decide.Step {
	step := decide.Highstate(p, s, owner, c, now)
	if step.Act == decide.Trace && c.Row.ClaimOwner == s.ID {
		return decide.Step{Act: decide.Finish, Reason: "does not run",
			Ended: decide.Ended{JID: c.Row.ClaimJID, Outcome: fleet.Vanished}}
	}
	return step
}

// sendsAgain sends a job that does not run once more, in the belief that a minion
// drops each jid that it has seen.
func sendsAgain(p decide.Policy, s decide.Self, owner decide.Liveness, c decide.HighstateView,
	now time.Time) decide.Step {
	step := decide.Highstate(p, s, owner, c, now)
	if step.Act == decide.Trace && c.Row.ClaimOwner == s.ID {
		return decide.Step{Act: decide.Publish, Reason: "does not run"}
	}
	return step
}

// asksNobody begins a new attempt when the owner of a claim is gone, whatever
// became of its job.
func asksNobody(p decide.Policy, s decide.Self, owner decide.Liveness, c decide.HighstateView,
	now time.Time) decide.Step {
	step := decide.Highstate(p, s, owner, c, now)
	if step.Act == decide.Take && c.Row.ClaimState == fleet.Claimed {
		return decide.Step{Act: decide.Finish, Reason: "its owner is gone",
			Ended: decide.Ended{JID: c.Row.ClaimJID, Outcome: fleet.Vanished}}
	}
	return step
}

func TestReading(t *testing.T) {
	today := time.Now()
	a := reading(epoch, time.Hour)
	b := reading(epoch.Add(-time.Minute), time.Hour+time.Second)
	if !a.Equal(a) || a.Unix() != epoch.Unix() || a.UTC().Format(time.RFC3339) != epoch.Format(time.RFC3339) ||
		a.IsZero() {
		t.Errorf("the wall clock reads %v", a)
	}
	if b.Sub(a) != time.Second || !b.After(a) || a.Add(time.Second).Compare(b) != 0 {
		t.Errorf("%v passed on the monotonic clock", b.Sub(a))
	}
	if got := reading(today, 0); got.Unix() != today.Unix() || got.Nanosecond() != today.Nanosecond() {
		t.Errorf("%v became %v", today, got)
	}
}
