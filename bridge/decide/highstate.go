package decide

import (
	"fmt"
	"time"

	"phoenix/bridge/fleet"
)

// Policy is what the operator wants of first highstates.
type Policy struct {
	Enabled  bool
	Attempts int           // tries that may fail before it is shown as failed
	Lease    time.Duration // how long a master's counter may stand still
}

// The waits of a highstate's course. None of them is a promise to anybody: each
// only says when to look again.
const (
	// pingEvery: a minion that reconnects may say nothing (Salt 3006), so those
	// that still want a highstate are asked; all of them in one publish.
	pingEvery = 2 * time.Minute
	// hereFor: how long a sign of life says that a minion is connected here. If
	// it is wrong, the job is published to nobody and resolved later.
	hereFor = 5 * time.Minute
	// askFirst, askMost: a job is asked after when its return is overdue. Under
	// load Salt needs seconds to start the process that runs a job.
	askFirst = 15 * time.Second
	askMost  = 2 * time.Minute
	// unknownsToLose: a minion that does not know a jid that was published twice
	// may still be starting it; it is asked once more before the jid is given up.
	unknownsToLose = 2
	// busyWait: another highstate runs there; Salt lets only one run at a time.
	busyWait = 10 * time.Second
	// retryFirst, retryMost: the back-off between attempts that failed. What
	// fails a first highstate is often something that is not up yet.
	retryFirst = 15 * time.Second
	retryMost  = 10 * time.Minute
	// rereadEvery: while another master runs the job, only the row tells.
	rereadEvery = 30 * time.Second
)

// Self is the master that decides.
type Self struct {
	ID          string
	Incarnation string
	Beating     bool // its own heartbeats reach the store; if not, it publishes nothing
	Slots       int  // highstates that may still be started (highstate.concurrency)
}

// Ended is what a job returned, by an event or from the minion's cache.
type Ended struct {
	JID     string
	Outcome fleet.Outcome
	Retcode int
}

// Course is what this master knows of one minion's first highstate. Times are of
// its own monotonic clock; zero means never.
type Course struct {
	Row      fleet.Minion
	RowAt    time.Time // when Row was read or written
	Since    time.Time // when Row's ClaimVersion was first seen
	Accepted bool      // the bound key is accepted on this master
	Here     time.Time // the minion last showed that it is connected here
	Pinged   time.Time

	Taken     Taken
	Published time.Time // the row's jid, by this incarnation
	Resent    bool      // the jid was published again because nobody knew it
	Asked     time.Time // after the jid
	Asks      int       // since the claim was taken
	Unknowns  int       // answers "I do not know that jid" to questions since the last publish
	Told      time.Time // when the last of those questions was sent
	NoCache   bool      // the minion keeps no jobs (cache_jobs is off)
	Failover  bool      // the minion is served by one master at a time: this one
	Ended     *Ended
}

// Taken is how this incarnation came by the claim.
type Taken int

const (
	TakenNot  Taken = iota
	TakenNew        // a new claim: nobody has published the jid
	TakenOver       // from another: the jid may be running, or over
)

// Act is the next thing to do for a minion's first highstate.
type Act string

const (
	Rest    Act = "rest"    // nothing, until something happens
	Wait    Act = "wait"    // nothing, until Step.At
	Queue   Act = "queue"   // nothing, until another one ended
	Read    Act = "read"    // the row again
	Ping    Act = "ping"    // is the minion connected here?
	Take    Act = "take"    // write the claim: a new one, or over another's
	Publish Act = "publish" // the row's jid
	Ask     Act = "ask"     // the minion after the row's jid
	Finish  Act = "finish"  // write how it ended
)

// Step is an act and why.
type Step struct {
	Act    Act
	Reason string
	At     time.Time // for Wait
	Ended  Ended     // for Finish
}

// Next says what to do next for the first highstate of the minion of c.
func Next(p Policy, self Self, owner Pulse, c Course, now time.Time) Step {
	r := c.Row
	switch {
	case r.Status != fleet.Launch:
		return Step{Act: Rest, Reason: "its instance was terminated"}
	case c.Ended != nil && c.Ended.JID == r.ClaimJID && tells(r.ClaimState, c.Ended.Outcome):
		return Step{Act: Finish, Reason: "its job returned", Ended: *c.Ended}
	case r.HighstateRan:
		return Step{Act: Rest, Reason: "its highstate ran"}
	case r.Adopted():
		return Step{Act: Rest, Reason: "adopted: it had its first highstate before Phoenix came"}
	case !p.Enabled:
		return Step{Act: Rest, Reason: "highstate.enabled is false"}
	case !c.Accepted:
		return Step{Act: Rest, Reason: "its key is not accepted on this master"}
	case !self.Beating:
		return wait(now.Add(rereadEvery), "this master's heartbeat does not reach the store")
	}
	switch r.ClaimState {
	case fleet.Claimed:
		return claimed(self, owner, c, now)
	case fleet.Failed:
		if r.Attempt >= p.Attempts {
			return Step{Act: Rest, Reason: fmt.Sprintf("%d of %d attempts failed (phoenix highstate run)", r.Attempt, p.Attempts)}
		}
		if at := c.Since.Add(backoff(r.Attempt)); now.Before(at) {
			return wait(at, fmt.Sprintf("attempt %d failed", r.Attempt))
		}
	case fleet.Unclaimed:
		if at := c.Since.Add(busyWait); r.ClaimJID != "" && now.Before(at) {
			return wait(at, "another highstate was running there")
		}
	}
	switch {
	case !c.here(now):
		return c.ping(now, "it is not connected here, as far as this master knows")
	case self.Slots <= 0:
		return Step{Act: Queue, Reason: "as many highstates run as highstate.concurrency allows"}
	}
	return Step{Act: Take, Reason: fmt.Sprintf("attempt %d", r.Attempt+1)}
}

// tells says whether an outcome is news to a row in that state.
func tells(s fleet.ClaimState, o fleet.Outcome) bool {
	return s == fleet.Claimed || s == fleet.Failed && o == fleet.Succeeded
}

// claimed: somebody runs the row's jid, or was about to.
func claimed(self Self, owner Pulse, c Course, now time.Time) Step {
	r := c.Row
	if r.ClaimOwner != self.ID {
		return others(owner, c, now)
	}
	if r.ClaimIncarnation != self.Incarnation {
		return Step{Act: Take, Reason: "this master's own claim, from before its bridge restarted"}
	}
	return resolve(c, now)
}

// resolve is the owner's way to the end of a job: publish, wait for the return,
// ask after it. It is the same for the one that published first and for one that
// took the claim over, who asks before it publishes.
func resolve(c Course, now time.Time) Step {
	switch {
	case c.Published.IsZero() && c.Taken == TakenNew:
		return Step{Act: Publish, Reason: "claimed"}
	case c.Asks == 0 && c.Taken != TakenNew:
		return Step{Act: Ask, Reason: "the claim was another's: what became of its job?"}
	case c.NoCache && (c.Resent || c.Taken != TakenNew):
		// It runs no more and nobody can say how it ended: never run it again.
		return wait(now.Add(rereadEvery), "how it ended is not known: the minion's cache_jobs is off (phoenix highstate run --force)")
	case c.Unknowns > 0 && !c.Resent:
		return Step{Act: Publish, Reason: "the minion does not know its jid: it was not connected"}
	case c.Unknowns >= unknownsToLose:
		return Step{Act: Finish, Reason: "the minion lost the job", Ended: Ended{JID: c.Row.ClaimJID, Outcome: fleet.Vanished}}
	}
	if at := c.askAt(); now.Before(at) {
		return wait(at, "its highstate runs")
	}
	return Step{Act: Ask, Reason: "its return is overdue"}
}

// others: another master holds the claim.
func others(owner Pulse, c Course, now time.Time) Step {
	switch owner {
	case Retired, Stopped:
		if !c.here(now) {
			return c.ping(now, "its master is gone; is it connected here?")
		}
		return Step{Act: Take, Reason: "the master that ran it is gone"}
	case Beating:
		if c.Failover && c.here(now) {
			return Step{Act: Take, Reason: "it moved here: its former master cannot hear of it"}
		}
		// Hot minions are connected to both masters, and one must not take from
		// the other what it runs. Only the minion itself can tell.
		if c.here(now) && !now.Before(c.askAt()) {
			return Step{Act: Ask, Reason: "another master runs it, and it is connected here"}
		}
		// A minion that moves here may do so without a word, and its former
		// master, alive but deaf to it, would wait for its return for ever.
		if step := c.ping(now, "another master runs it; has it moved here?"); !c.here(now) && step.Act == Ping {
			return step
		}
	}
	if at := c.RowAt.Add(rereadEvery); now.Before(at) {
		return wait(at, "another master runs it")
	}
	return Step{Act: Read, Reason: "another master runs it"}
}

func wait(at time.Time, reason string) Step { return Step{Act: Wait, Reason: reason, At: at} }

// Occupies says whether the highstate takes one of the slots of master id. One
// whose minion is silent, or whose end nobody will ever know, keeps no other
// from starting.
func (c Course) Occupies(id string, now time.Time) bool {
	return c.Row.ClaimState == fleet.Claimed && c.Row.ClaimOwner == id && !c.NoCache &&
		(c.here(now) || now.Sub(c.Since) < hereFor || now.Sub(c.Published) < hereFor)
}

func (c Course) here(now time.Time) bool {
	return !c.Here.IsZero() && now.Sub(c.Here) < hereFor
}

func (c Course) ping(now time.Time, reason string) Step {
	if at := c.Pinged.Add(pingEvery); !c.Pinged.IsZero() && now.Before(at) {
		return wait(at, reason)
	}
	return Step{Act: Ping, Reason: reason}
}

// askAt is when to ask after the jid: some time after the publish (or after the
// claim was first seen), then in growing steps.
func (c Course) askAt() time.Time {
	last := c.Since
	for _, t := range []time.Time{c.Published, c.Asked} {
		if t.After(last) {
			last = t
		}
	}
	return last.Add(min(askFirst<<min(c.Asks, 8), askMost))
}

func backoff(attempt int) time.Duration {
	return min(retryFirst<<(2*min(max(attempt-1, 0), 8)), retryMost)
}
