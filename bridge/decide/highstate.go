package decide

import (
	"fmt"
	"time"

	"phoenix/bridge/fleet"
)

// Policy is the configuration of first highstates.
type Policy struct {
	Enabled  bool
	Attempts int           // that may fail before the highstate counts as failed
	Lease    time.Duration // how long a master's heartbeat counter may stand still
	Breaker  Breaker
}

// The waits of a first highstate. None of them is a promise: each only says when to
// decide again.
const (
	// pingEvery: a minion that reconnects may send no event (Salt 3006), so minions
	// that still need a highstate are pinged, all of them in one publish.
	pingEvery = 2 * time.Minute
	// authSettles: the event that a minion has authenticated is sent before it has the
	// answer. One that has just started sends a start event within this time.
	authSettles = 10 * time.Second
	// connectedFor: how long a minion counts as connected after its last message. If
	// that is wrong, the job reaches nobody and is resolved later.
	connectedFor = 5 * time.Minute
	// askFirst, askMost: the minion is asked when the return of a job is overdue.
	// Under load Salt needs seconds to start the process that runs a job. Each
	// question is a jid that the minion has to remember beside the highstate's.
	askFirst = 15 * time.Second
	askMost  = 5 * time.Minute
	// peerAskFirst, peerAskMost: a minion whose job another master runs, which
	// beats, is asked rarely: the owner asks.
	peerAskFirst = 10 * time.Minute
	peerAskMost  = 2 * time.Hour
	// kindFirst: so long after the claim was seen, a minion that is also connected
	// here is asked whether it has moved here; and not again for kindFor.
	kindFirst = 30 * time.Second
	kindFor   = time.Hour
	// unknownsToAct: a jid is published again only if the minion answers twice that
	// it does not know it, and is lost only if the minion then answers so twice. A
	// minion that answers so sooner than unknownAfter the last publish may still be
	// starting the job, and one that answers so once may be between the end of the
	// job and the write to its job cache. It has to be this sure: if the minion has
	// forgotten the jid (minion_jid_queue_hwm, 100 by default), or was restarted, the
	// second publish runs beside the first, since Salt keeps two state runs apart
	// only if their jids differ (3006 to 3008; tried).
	unknownAfter  = 30 * time.Second
	unknownsToAct = 2
	// busyFirst, busyMost: the back-off while another state run keeps the minion
	// busy; Salt runs only one at a time.
	busyFirst = 10 * time.Second
	busyMost  = 10 * time.Minute
	// freeAsks: after so many questions without an answer, the highstate itself is
	// tried.
	freeAsks = 3
	// retryFirst, retryMost: the back-off between failed attempts. A first highstate
	// often fails because something else is not up yet.
	retryFirst = 15 * time.Second
	retryMost  = 10 * time.Minute
	// unreadyWait: a master may become ready at any moment; deciding again costs nothing.
	unreadyWait = 5 * time.Second
	// rereadEvery: while another master runs the job, only the row shows its end.
	rereadEvery = 30 * time.Second
)

// Self is the master that decides.
type Self struct {
	ID          string
	Incarnation string
	Beating     bool // its heartbeats reach the store and say ready; otherwise it publishes nothing
	Draining    bool // it takes no claim
	Slots       int  // highstates that may still start (highstate.concurrency)
	// Open says why the circuit breaker is open, and no new highstate begins; empty: it
	// is closed.
	Open string
}

// Ended is how a job ended, by an event or by the minion's job cache.
type Ended struct {
	JID     string
	Outcome fleet.Outcome
	Retcode int
	By      Blocker // for Busy: the job that ran
}

// HighstateView is what this master knows of one minion's first highstate. Times are
// of this master's monotonic clock; zero means never.
type HighstateView struct {
	Row         fleet.Minion
	RowAt       time.Time // when Row was read or written
	Since       time.Time // when Row's ClaimVersion was first seen
	Accepted    bool      // the bound key is accepted on this master
	KeyAt       time.Time // since when the bound key is the accepted one, as far as was seen here
	ConnectedAt time.Time // when the minion's last message came here
	Pinged      time.Time

	Taken     Taken
	Published time.Time // the row's jid, by this incarnation
	Resent    bool      // the jid was published again because the minion did not know it
	Asked     time.Time // when the minion was last asked what runs
	Asks      int       // since the claim was seen
	// when the question was sent whose answer did not name the jid; zero: none since the last publish or trace
	NotRunning time.Time
	Traced     time.Time // when the minion was last asked whether its queues or its job cache have the jid
	Missing    bool      // the last answer to both was that it does not know the jid
	Unknowns   int       // such answers that count, since the last publish
	UnknownAt  time.Time // when the question of the last of those was sent
	NoCache    bool      // the minion has no job cache (cache_jobs is off)
	Doubled    bool      // the jid reached the minion again while it ran: its job cache has the second run
	Failover   bool      // one master at a time serves the minion: this one
	Ended      *Ended

	// These outlast a claim.
	KindAsked time.Time // when the minion was last asked for its master_type
	KindAsks  int       // in a row without an answer
	Hot       time.Time // when it last answered that all its masters serve it
	Busies    int       // how often in a row it was busy
	BusyAt    time.Time // the last time
	Blocker   Blocker   // what keeps it busy, as far as is known
	Free      time.Time // when the question was sent whose answer named no state run
	SentAs    string    // the jid under which the master published, if not the one it was given
	SentFor   string    // the one it was given
}

// Taken is how this incarnation got the claim.
type Taken int

const (
	TakenNot  Taken = iota
	TakenNew        // a new claim: the jid has not been published
	TakenOver       // taken over: the jid may be running, or have ended
)

// Act is the next thing to do for a minion's first highstate.
type Act string

const (
	Rest    Act = "rest"    // nothing, until an event
	Wait    Act = "wait"    // nothing, until Step.At
	Queue   Act = "queue"   // nothing, until another highstate ends
	Halt    Act = "halt"    // nothing, until the circuit breaker is closed
	Read    Act = "read"    // read the row again
	Ping    Act = "ping"    // ask whether the minion is connected here
	Take    Act = "take"    // write the claim: a new one, or a takeover
	Publish Act = "publish" // publish the row's jid
	Ask     Act = "ask"     // ask the minion what it runs
	Trace   Act = "trace"   // ask the minion whether its queues or its job cache have the row's jid
	Kind    Act = "kind"    // ask the minion for its master_type
	Rename  Act = "rename"  // write the jid under which the master published
	Finish  Act = "finish"  // write how it ended
)

// Step is an act and the reason for it.
type Step struct {
	Act    Act
	Reason string
	At     time.Time // for Wait
	Ended  Ended     // for Finish
}

// Highstate decides what to do next for the first highstate of the minion of c.
func Highstate(p Policy, self Self, owner Liveness, c HighstateView, now time.Time) Step {
	r := c.Row
	switch {
	case r.Status != fleet.Launch:
		return Step{Act: Rest, Reason: "its instance was terminated"}
	case c.Ended != nil && c.Ended.JID == r.ClaimJID && outcomeIsNew(r.ClaimState, c.Ended.Outcome):
		return Step{Act: Finish, Reason: "its job returned", Ended: *c.Ended}
	case r.HighstateRan:
		return Step{Act: Rest, Reason: "its highstate ran"}
	case r.Adopted():
		return Step{Act: Rest, Reason: "adopted: it was accepted before Phoenix managed it, so no first highstate is run"}
	case !p.Enabled:
		return Step{Act: Rest, Reason: "highstate.enabled is false"}
	case !c.Accepted:
		return Step{Act: Rest, Reason: "its key is not accepted on this master"}
	case !self.Beating:
		return wait(now.Add(unreadyWait), "this master is not ready, or its heartbeat does not reach the store")
	}
	switch r.ClaimState {
	case fleet.Claimed:
		return claimed(self, owner, c, now)
	case fleet.Failed:
		if r.Attempt >= p.Attempts {
			return Step{Act: Rest, Reason: fmt.Sprintf("%d of %d attempts failed (phoenix highstate show %s; phoenix highstate run %s)", r.Attempt, p.Attempts, r.SaltID(), r.SaltID())}
		}
		if at := c.Since.Add(backoff(r.Attempt)); now.Before(at) {
			return wait(at, fmt.Sprintf("attempt %d failed", r.Attempt))
		}
	}
	if c.SentAs != "" {
		return Step{Act: Rest, Reason: fmt.Sprintf("%s; it is not sent again (phoenix highstate run %s)",
			c.renamedReason(), r.SaltID())}
	}
	if c.blocked() {
		if step, waits := c.waitForFree(now); waits {
			return step
		}
	}
	switch {
	case !c.connected(now):
		return c.ping(now, "it is not connected here, as far as this master knows")
	case self.halts(r):
		return Step{Act: Halt, Reason: self.Open}
	case self.Draining:
		return wait(now.Add(rereadEvery), drainingReason)
	case self.Slots <= 0:
		return Step{Act: Queue, Reason: "as many highstates run as highstate.concurrency allows"}
	}
	return Step{Act: Take, Reason: fmt.Sprintf("attempt %d", r.Attempt+1)}
}

// halts reports whether the highstate of a row may not begin now. One that an operator
// asked for may: it shows whether the states are repaired.
func (s Self) halts(row fleet.Minion) bool { return s.Open != "" && !row.Requested() }

// grow doubles first n times, up to most.
func grow(first time.Duration, n int, most time.Duration) time.Duration {
	return min(first<<min(max(n, 0), 16), most)
}

// outcomeIsNew reports whether an outcome changes a row in that state.
func outcomeIsNew(s fleet.ClaimState, o fleet.Outcome) bool {
	return s == fleet.Claimed || s == fleet.Failed && o == fleet.Succeeded
}

func wait(at time.Time, reason string) Step { return Step{Act: Wait, Reason: reason, At: at} }

// Occupies reports whether the highstate takes one of the slots of master id. A
// highstate whose minion does not answer, or whose end will never be known, keeps no
// other from starting.
func (c HighstateView) Occupies(id string, now time.Time) bool {
	return c.Row.ClaimState == fleet.Claimed && c.Row.ClaimOwner == id && !c.NoCache && !c.Doubled &&
		!(c.SentAs != "" && c.Unknowns >= unknownsToAct) &&
		(c.connected(now) || now.Sub(c.Since) < connectedFor || now.Sub(c.Published) < connectedFor)
}

func (c HighstateView) connected(now time.Time) bool {
	return !c.ConnectedAt.IsZero() && now.Sub(c.ConnectedAt) < connectedFor
}

func (c HighstateView) ping(now time.Time, reason string) Step {
	if at := c.Pinged.Add(pingEvery); !c.Pinged.IsZero() && now.Before(at) {
		return wait(at, reason)
	}
	return Step{Act: Ping, Reason: reason}
}

func backoff(attempt int) time.Duration {
	return min(retryFirst<<(2*min(max(attempt-1, 0), 8)), retryMost)
}
