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
	// load Salt needs seconds to start the process that runs a job. Each question
	// is a jid that the minion has to remember beside the highstate's.
	askFirst = 15 * time.Second
	askMost  = 5 * time.Minute
	// othersFirst, othersMost: a job that another master runs, which beats, is
	// asked after rarely: the owner asks.
	othersFirst = 10 * time.Minute
	othersMost  = 2 * time.Hour
	// moveFirst: so long after the claim was seen, a minion that is connected here
	// too is asked whether it has moved here; and not again for kindFor.
	moveFirst = 30 * time.Second
	kindFor   = time.Hour
	// unknownsToAct: only a minion that says twice that it does not know a jid is
	// sent it again, and only one that then says so twice has lost it. One that
	// says so sooner than unknownAfter the last publish may still be starting it,
	// and one that says so once may be between the end of the job and the cache of
	// jobs. It has to be this sure: if the minion has forgotten the jid
	// (minion_jid_queue_hwm, 100 by default), or was started anew, what is sent
	// again runs beside what runs, since Salt keeps a state run from running beside
	// another only if their jids differ (3006 to 3008; tried).
	unknownAfter  = 30 * time.Second
	unknownsToAct = 2
	// busyFirst, busyMost: the back-off while another state run keeps a minion;
	// Salt lets only one run at a time.
	busyFirst = 10 * time.Second
	busyMost  = 10 * time.Minute
	// freeAsks: after so many questions without an answer, what keeps it is tried
	// by the highstate itself.
	freeAsks = 3
	// retryFirst, retryMost: the back-off between attempts that failed. What
	// fails a first highstate is often something that is not up yet.
	retryFirst = 15 * time.Second
	retryMost  = 10 * time.Minute
	// unreadyWait: a master that is not ready may become so any moment. Asking again
	// is a look at memory.
	unreadyWait = 5 * time.Second
	// rereadEvery: while another master runs the job, only the row tells.
	rereadEvery = 30 * time.Second
)

// Self is the master that decides.
type Self struct {
	ID          string
	Incarnation string
	Beating     bool // its own heartbeats reach the store and say ready; if not, it publishes nothing
	Draining    bool // it is to be left: it takes no claim
	Slots       int  // highstates that may still be started (highstate.concurrency)
}

// Ended is what a job returned, by an event or from the minion's cache.
type Ended struct {
	JID     string
	Outcome fleet.Outcome
	Retcode int
	By      Blocker // for Busy: what ran
}

// Blocker is a state run that is not ours and keeps a minion from running a
// highstate.
type Blocker struct {
	JID, Fun string
	PID      int
	Started  string // as the minion says it; may be empty
}

func (b Blocker) String() string {
	since := b.Started
	if since == "" {
		since = "a jid's time"
	}
	return fmt.Sprintf("%s, PID %d since %s (jid %s)", b.Fun, b.PID, since, b.JID)
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
	Asked     time.Time // what runs
	Asks      int       // since the claim was seen
	Silent    time.Time // when the question was sent whose answer did not name the jid; zero: none since the last publish, or traced
	Traced    time.Time // the jid was last looked for in the minion's queues and its cache of jobs
	Missing   bool      // the last answer to both was "I do not know that jid"
	Unknowns  int       // such answers that count, since the last publish
	Told      time.Time // when the last of those was asked
	NoCache   bool      // the minion keeps no jobs (cache_jobs is off)
	Doubled   bool      // the jid came to the minion again while it ran: the minion's record is not of what runs
	Failover  bool      // the minion is served by one master at a time: this one
	Ended     *Ended

	// What outlasts a claim.
	KindAsked time.Time // for the minion's master_type
	KindAsks  int       // in a row without an answer
	Hot       time.Time // when it last said that all its masters serve it
	Busies    int       // times in a row that it was found busy
	BusyAt    time.Time // the last time
	Blocker   Blocker   // by what, as far as is known
	Free      time.Time // when the question was sent whose answer named no state run
	SentAs    string    // the jid that the master published a highstate under, if not the one it was given
	SentFor   string    // that one
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
	Ask     Act = "ask"     // the minion what it runs
	Trace   Act = "trace"   // the row's jid in the minion's queues and its cache of jobs
	Kind    Act = "kind"    // the minion by how many masters it is served
	Rename  Act = "rename"  // write the jid under which the master published
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
		return wait(now.Add(unreadyWait), "this master is not ready, or its heartbeat does not reach the store")
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
	}
	if c.SentAs != "" {
		return Step{Act: Rest, Reason: fmt.Sprintf("%s; it is not sent again (phoenix highstate run)", c.otherJID())}
	}
	if c.blocked() {
		if step, waits := c.waitForFree(now); waits {
			return step
		}
	}
	switch {
	case !c.here(now):
		return c.ping(now, "it is not connected here, as far as this master knows")
	case self.Draining:
		return wait(now.Add(rereadEvery), drained)
	case self.Slots <= 0:
		return Step{Act: Queue, Reason: "as many highstates run as highstate.concurrency allows"}
	}
	return Step{Act: Take, Reason: fmt.Sprintf("attempt %d", r.Attempt+1)}
}

func (c Course) otherJID() string {
	return fmt.Sprintf("the master's job cache published it as %s, a jid of its own (master_job_cache)", c.SentAs)
}

// blocked says whether the last try found another state run there, and nothing
// has told since that it is over.
func (c Course) blocked() bool {
	return c.Row.ClaimState == fleet.Unclaimed && c.Row.ClaimJID != "" && !c.Free.After(c.Since)
}

// Blocked says whether a state run that is not ours keeps the minion from its
// highstate, and which, as far as is known.
func (c Course) Blocked() (by Blocker, blocked bool) { return c.Blocker, c.blocked() }

// waitForFree waits for the end of another's state run, in growing steps. It asks
// what runs rather than try a highstate: that would be two writes and a job, to
// learn the same. Whoever answers is connected here.
func (c Course) waitForFree(now time.Time) (step Step, waits bool) {
	reason := "another state run keeps it busy"
	if c.Blocker != (Blocker{}) {
		reason = "blocked by " + c.Blocker.String()
	}
	last := c.Since
	if c.BusyAt.After(last) {
		last = c.BusyAt
	}
	at := last.Add(grow(busyFirst, c.Busies-1, busyMost))
	if again := c.Asked.Add(askFirst); c.Asks > 0 && again.After(at) {
		at = again
	}
	switch {
	case now.Before(at):
		return wait(at, reason), true
	case c.Asks >= freeAsks:
		return Step{}, false
	}
	return Step{Act: Ask, Reason: reason}, true
}

// grow doubles first n times, up to most.
func grow(first time.Duration, n int, most time.Duration) time.Duration {
	return min(first<<min(max(n, 0), 16), most)
}

const drained = "this master is being drained: another one runs it"

// tells says whether an outcome is news to a row in that state.
func tells(s fleet.ClaimState, o fleet.Outcome) bool {
	return s == fleet.Claimed || s == fleet.Failed && o == fleet.Succeeded
}

// claimed: somebody runs the row's jid, or was about to.
func claimed(self Self, owner Pulse, c Course, now time.Time) Step {
	r := c.Row
	if r.ClaimOwner != self.ID {
		step := others(owner, c, now)
		if step.Act == Take && self.Draining {
			return wait(now.Add(rereadEvery), drained)
		}
		return step
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
	publish := func(reason string) Step { return Step{Act: Publish, Reason: reason} }
	if c.SentAs != "" {
		if c.SentFor == c.Row.ClaimJID {
			return Step{Act: Rename, Reason: c.otherJID()}
		}
		publish = func(string) Step { return wait(now.Add(rereadEvery), c.otherJID()+"; it is not sent again") }
	}
	switch {
	case c.Published.IsZero() && c.Taken == TakenNew:
		return publish("claimed")
	case c.Asks == 0 && c.Taken != TakenNew:
		return Step{Act: Ask, Reason: "the claim was another's: what became of its job?"}
	case c.silent():
		return Step{Act: Trace, Reason: "the minion does not run it: has it ended?"}
	case c.NoCache:
		// It does not run and nobody can say whether it has: never send it again.
		return wait(now.Add(rereadEvery), "whether and how it ended is not known: the minion's cache_jobs is off (phoenix highstate run --force)")
	case c.Unknowns >= unknownsToAct && !c.Resent:
		return publish("the minion does not know its jid: it was not connected")
	case c.Unknowns >= unknownsToAct:
		return Step{Act: Finish, Reason: "the minion lost the job", Ended: Ended{JID: c.Row.ClaimJID, Outcome: fleet.Vanished}}
	}
	if at := c.askAt(); now.Before(at) {
		if c.Doubled {
			return wait(at, "its jid came to the minion twice: how it ended tells only its return")
		}
		return wait(at, "its highstate runs")
	}
	return Step{Act: Ask, Reason: "its return is overdue"}
}

// silent says whether the minion said, since the jid was last sent or looked for,
// that it does not run it.
func (c Course) silent() bool { return !c.Silent.IsZero() }

// others: another master holds the claim.
func others(owner Pulse, c Course, now time.Time) Step {
	switch owner {
	case Retired, Stopped:
		if !c.here(now) {
			return c.ping(now, "its master is gone; is it connected here?")
		}
		return Step{Act: Take, Reason: "the master that ran it is gone"}
	case Beating:
		if !c.here(now) {
			// A minion that moves here may do so without a word, and its former
			// master, alive but deaf to it, would wait for its return for ever.
			if step := c.ping(now, "another master runs it; has it moved here?"); step.Act == Ping {
				return step
			}
			break
		}
		switch {
		case c.Failover:
			return Step{Act: Take, Reason: "it moved here: its former master cannot hear of it"}
		case !now.Before(c.kindAt()):
			// Hot minions are connected to both masters, and one must not take from
			// the other what it runs. Only the minion itself can tell.
			return Step{Act: Kind, Reason: "another master runs it, and it is connected here"}
		case c.silent():
			return Step{Act: Trace, Reason: "another master runs it, and it does not run: has it ended?"}
		case !now.Before(c.othersAt()):
			return Step{Act: Ask, Reason: "another master has run it for long"}
		}
	}
	if at := c.RowAt.Add(rereadEvery); now.Before(at) {
		return wait(at, "another master runs it")
	}
	return Step{Act: Read, Reason: "another master runs it"}
}

// kindAt is when to ask for the minion's master_type: once after a claim was seen,
// unless the minion said lately that all its masters serve it.
func (c Course) kindAt() time.Time {
	at := c.Since.Add(moveFirst)
	if again := c.Hot.Add(kindFor); !c.Hot.IsZero() && again.After(at) {
		at = again
	}
	if again := c.KindAsked.Add(grow(2*moveFirst, c.KindAsks-1, kindFor)); c.KindAsks > 0 && again.After(at) {
		at = again
	}
	return at
}

// othersAt is when to ask after a job of another master's.
func (c Course) othersAt() time.Time {
	last := c.Since
	for _, t := range []time.Time{c.Asked, c.Traced} {
		if t.After(last) {
			last = t
		}
	}
	return last.Add(grow(othersFirst, c.Asks, othersMost))
}

func wait(at time.Time, reason string) Step { return Step{Act: Wait, Reason: reason, At: at} }

// Occupies says whether the highstate takes one of the slots of master id. One
// whose minion is silent, or whose end nobody will ever know, keeps no other
// from starting.
func (c Course) Occupies(id string, now time.Time) bool {
	return c.Row.ClaimState == fleet.Claimed && c.Row.ClaimOwner == id && !c.NoCache && !c.Doubled &&
		!(c.SentAs != "" && c.Unknowns >= unknownsToAct) &&
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
	for _, t := range []time.Time{c.Published, c.Asked, c.Traced} {
		if t.After(last) {
			last = t
		}
	}
	if c.Missing {
		return last.Add(askFirst) // until it is sure
	}
	return last.Add(grow(askFirst, c.Asks, askMost))
}

func backoff(attempt int) time.Duration {
	return min(retryFirst<<(2*min(max(attempt-1, 0), 8)), retryMost)
}
