package decide

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"phoenix/bridge/fleet"
)

// Breaker is the configuration of the circuit breaker of first highstates: it opens
// when the first highstates of Failed of the last Last minions failed. The zero Breaker
// is off.
type Breaker struct{ Failed, Last int }

// maxBreaker bounds Last: the record is one small item of the store.
const maxBreaker = 100

// ParseBreaker reads FAILED/LAST, or 0.
func ParseBreaker(text string) (Breaker, error) {
	if text == "0" {
		return Breaker{}, nil
	}
	failed, last, found := strings.Cut(text, "/")
	x, errX := strconv.Atoi(failed)
	y, errY := strconv.Atoi(last)
	switch {
	case !found || errX != nil || errY != nil:
		return Breaker{}, fmt.Errorf("%q is neither FAILED/LAST, as 5/10, nor 0", text)
	case x < 1 || y < x || y > maxBreaker:
		return Breaker{}, fmt.Errorf("%q: want 1 <= FAILED <= LAST <= %d", text, maxBreaker)
	}
	return Breaker{x, y}, nil
}

// Off reports whether there is no circuit breaker.
func (p Breaker) Off() bool { return p.Last == 0 }

// Record returns the record after results that master saw at now, and reports whether
// it is another one. A minion counts once, by how its highstate last ended, so that one
// whose attempts all fail opens no breaker, and a result that is recorded twice counts
// once. The record of an open breaker stays as it was when it opened.
func (p Breaker) Record(b fleet.Breaker, results []fleet.BreakerResult, master string,
	now time.Time) (next fleet.Breaker, changed bool) {
	if p.Off() || b.Open() {
		return b, false
	}
	last := slices.Clone(b.Last)
	for _, r := range results {
		if slices.Contains(last, r) {
			continue
		}
		last = slices.DeleteFunc(last, func(old fleet.BreakerResult) bool { return old.InstanceID == r.InstanceID })
		last = append(last, r)
		last = last[max(len(last)-p.Last, 0):]
		if failed := countFailed(last); failed >= p.Failed {
			b.Opened, b.OpenedBy = fleet.FormatTime(now), master
			b.Reason = fmt.Sprintf("the first highstates of %d of the last %d minions failed (highstate.breaker %d/%d)",
				failed, len(last), p.Failed, p.Last)
			break
		}
	}
	// Successes before the first failure never matter again: a fleet in which none fails
	// writes nothing.
	first := slices.IndexFunc(last, func(r fleet.BreakerResult) bool { return r.Failed })
	if first < 0 {
		first = len(last)
	}
	if last = last[first:]; slices.Equal(last, b.Last) {
		return b, false
	}
	b.Version++
	b.Writer, b.Last = master, last
	return b, true
}

func countFailed(results []fleet.BreakerResult) (n int) {
	for _, r := range results {
		if r.Failed {
			n++
		}
	}
	return n
}

// Resume returns the record of a breaker that an operator closed: what had failed by
// then does not count any more.
func Resume(b fleet.Breaker, by string, now time.Time) fleet.Breaker {
	return fleet.Breaker{Version: b.Version + 1, Writer: by, Resumed: fleet.FormatTime(now), ResumedBy: by}
}
