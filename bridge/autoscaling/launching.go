package autoscaling

import (
	"fmt"
	"time"

	"phoenix/bridge/fleet"
)

// step is what to do about a hook that waits.
type step string

const (
	stay    step = "stay"    // check again later
	beat    step = "beat"    // the same, and extend the hook
	proceed step = "proceed" // CONTINUE
	abandon step = "abandon" // ABANDON: the instance is terminated and replaced
	drop    step = "drop"    // forget it
)

// progress is how far a launching instance has come. It only grows: a claim that is
// taken over, or a state run that is refused as busy, is no progress.
type progress struct {
	key   string    // the digest that is bound
	far   int       // 1: a key is bound; 2n: attempt n was begun; 2n+1: it ended
	moved time.Time // when it last grew, on our own clock
}

// see updates the progress by a row.
func (p *progress) see(row fleet.Minion, now time.Time) {
	if row.KeySHA256 != p.key { // bound, or bound anew by an administrator: it begins again
		p.key, p.far, p.moved = row.KeySHA256, 0, now
	}
	far := 0
	switch {
	case row.KeySHA256 == "":
	case row.ClaimState == fleet.Claimed:
		far = 2 * row.Attempt
	default: // failed, done, or refused as busy, which does not count as an attempt
		far = 2*row.Attempt + 1
	}
	if far > p.far {
		p.far, p.moved = far, now
	}
}

// waitsToBegin reports whether the highstate of a row, or its next attempt, has yet to
// begin: it does not while all slots of its master are taken (highstate.concurrency).
func waitsToBegin(row fleet.Minion) bool {
	return row.Status == fleet.Launch && row.KeySHA256 != "" && row.ClaimState != fleet.Claimed && !row.HighstateRan
}

// waitsForBreaker reports whether it does not begin either while the circuit breaker is
// open. What runs then ends as always.
func waitsForBreaker(row fleet.Minion) bool { return waitsToBegin(row) && !row.Requested() }

// next decides for a launching minion. Its hook is extended only until the hook's own
// timeout after its last progress: a minion that died, or whose states hang, must not wait
// for two days. An instance without a row has the zero row; its hook is not completed.
func next(w *wait, row fleet.Minion, attempts int, timeout time.Duration, now time.Time) (step, string) {
	still := now.Sub(w.moved)
	switch {
	case row.Status == fleet.Terminate, now.Sub(w.begun) > tendFor:
		return drop, ""
	case row.Status != fleet.Launch:
		if still > timeout { // AutoScaling has long decided by itself
			return drop, ""
		}
		return stay, ""
	case row.HighstateRan || row.Adopted() || attempts == 0 && row.KeySHA256 != "":
		return proceed, ""
	case attempts > 0 && row.ClaimState == fleet.Failed && row.Attempt >= attempts:
		return abandon, fmt.Sprintf("its first highstate failed, %d of %d attempts", row.Attempt, attempts)
	case row.KeySHA256 == "" && still > timeout:
		return drop, "" // never extended: the hook's own timeout has ended it
	case row.KeySHA256 == "":
		return stay, ""
	case still > timeout && row.ClaimState == fleet.Claimed:
		return abandon, fmt.Sprintf("its first highstate (attempt %d, jid %s) did not return within the hook's timeout of %v", row.Attempt, row.ClaimJID, timeout)
	case still > timeout:
		return abandon, fmt.Sprintf("no progress within the hook's timeout of %v", timeout)
	}
	return beat, ""
}

// keptFor: a bridge that starts leaves "ready" in its row for 15 s without an answer of
// its master.
const keptFor = 20 * time.Second

// arrival is what was seen of a launching master's row since its hook began to wait.
type arrival struct {
	seen      bool
	heartbeat int64     // at the first check
	unready   bool      // it was not ready since
	moved     time.Time // when the heartbeat was first seen to have moved; zero: never
}

// see updates the arrival by the row as it was just read, and reports whether the master
// serves minions. A row that is ready at the first check may be an old one, of an instance
// that comes out of the warm pool, and a bridge that starts keeps what it finds there. So
// the heartbeat must change, and the row stay ready.
func (a *arrival) see(master fleet.Master, found bool, now time.Time) (ready bool) {
	if !a.seen {
		a.seen, a.heartbeat = true, master.Heartbeat
	}
	ready = found && master.Ready
	if !ready {
		a.unready = true
		return false
	}
	if a.moved.IsZero() && master.Heartbeat != a.heartbeat {
		a.moved = now
	}
	return !a.moved.IsZero() && (a.unready || now.Sub(a.moved) >= keptFor)
}

// nextOfMaster decides for a launching master. Its group terminates another master as soon
// as this one is in service, so it must serve minions. The highstate of its own minion does
// not matter: broken states must not terminate masters. The hook's own timeout bounds the
// wait.
func nextOfMaster(w *wait, row fleet.Minion, ready bool, now time.Time) step {
	switch {
	case now.Sub(w.begun) > tendFor, row.Status == fleet.Terminate:
		return drop
	case ready:
		return proceed
	}
	return stay
}
