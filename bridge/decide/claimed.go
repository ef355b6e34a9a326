package decide

import (
	"fmt"
	"time"

	"phoenix/bridge/fleet"
)

func (c HighstateView) renamedReason() string {
	return fmt.Sprintf("the master's job cache published it as %s, a jid of its own (master_job_cache)", c.SentAs)
}

const drainingReason = "this master is being drained: another one runs it"

// claimed decides about a row that is claimed: some master runs its jid, or is about to.
func claimed(self Self, owner Liveness, c HighstateView, now time.Time) Step {
	r := c.Row
	if r.ClaimOwner != self.ID {
		step := claimedByPeer(self, owner, c, now)
		if step.Act == Take && self.Draining {
			return wait(now.Add(rereadEvery), drainingReason)
		}
		return step
	}
	if r.ClaimIncarnation != self.Incarnation {
		return Step{Act: Take, Reason: "this master's own claim, from before its bridge restarted"}
	}
	return resolve(self, c, now)
}

// resolve brings the owner's job to its end: publish, wait for the return, ask for
// it. It is the same for the master that published first and for one that took the
// claim over, which asks before it publishes.
func resolve(self Self, c HighstateView, now time.Time) Step {
	publish := func(reason string) Step { return Step{Act: Publish, Reason: reason} }
	if self.halts(c.Row) { // whatever was sent before runs to its end
		publish = func(string) Step { return Step{Act: Halt, Reason: self.Open} }
	}
	if c.SentAs != "" {
		if c.SentFor == c.Row.ClaimJID {
			return Step{Act: Rename, Reason: c.renamedReason()}
		}
		publish = func(string) Step { return wait(now.Add(rereadEvery), c.renamedReason()+"; it is not sent again") }
	}
	switch {
	case c.Published.IsZero() && c.Taken == TakenNew:
		return publish("claimed")
	case c.Asks == 0 && c.Taken != TakenNew:
		return Step{Act: Ask, Reason: "the claim was another's: what became of its job?"}
	case c.notRunning():
		return Step{Act: Trace, Reason: "the minion does not run it: it is asked whether it has ended"}
	case c.NoCache:
		// It does not run, and whether it ran is not known: never publish it again.
		return wait(now.Add(rereadEvery),
			fmt.Sprintf("whether and how it ended is not known: the minion's cache_jobs is off (phoenix highstate run --force %s)", c.Row.SaltID()))
	case c.Unknowns >= unknownsToAct && !c.Resent:
		return publish("the minion does not know its jid: it was not connected")
	case c.Unknowns >= unknownsToAct:
		return Step{Act: Finish, Reason: "the minion lost the job",
			Ended: Ended{JID: c.Row.ClaimJID, Outcome: fleet.Vanished}}
	}
	if at := c.askAt(); now.Before(at) {
		if c.Doubled {
			return wait(at, "its jid came to the minion twice: only its return says how it ended")
		}
		return wait(at, "its highstate runs")
	}
	return Step{Act: Ask, Reason: "its return is overdue"}
}

// notRunning reports whether the minion answered, since the jid was last published or
// traced, that it does not run it.
func (c HighstateView) notRunning() bool { return !c.NotRunning.IsZero() }

// claimedByPeer decides about a row that another master has claimed.
func claimedByPeer(self Self, owner Liveness, c HighstateView, now time.Time) Step {
	r := c.Row
	switch owner {
	case Retired, Stopped:
		if !c.connected(now) {
			return c.ping(now, "its master is gone; is it connected here?")
		}
		return Step{Act: Take, Reason: "the master that ran it is gone"}
	case Beating:
		if !c.connected(now) {
			// A minion may move here without an event, and its former master, which
			// no longer receives its returns, would wait for ever.
			if step := c.ping(now, r.ClaimOwner+" runs it; has it moved here?"); step.Act == Ping {
				return step
			}
			break
		}
		switch {
		case c.Failover:
			return Step{Act: Take, Reason: "it moved here: its former master does not receive its return"}
		case c.Unknowns >= unknownsToAct && !c.NoCache && c.SentAs == "" && !self.halts(c.Row):
			// Its owner would have published by now, or asked. It cannot if the minion's
			// key is not accepted there any more (salt-key -d), or if it lost the minion.
			return Step{Act: Take, Reason: r.ClaimOwner +
				" has claimed it for long, and the minion does not know the job"}
		case !now.Before(c.kindAt()):
			// Hot minions are connected to both masters, which must not take each
			// other's claims. Only the minion itself knows.
			return Step{Act: Kind, Reason: r.ClaimOwner + " runs it, and it is connected here"}
		case c.notRunning():
			return Step{Act: Trace, Reason: r.ClaimOwner +
				" runs it, and the minion does not: it is asked whether it has ended"}
		case !now.Before(c.peerAskAt()):
			return Step{Act: Ask, Reason: r.ClaimOwner + " has run it for long"}
		}
	}
	if at := c.RowAt.Add(rereadEvery); now.Before(at) {
		return wait(at, r.ClaimOwner+" runs it")
	}
	return Step{Act: Read, Reason: r.ClaimOwner + " runs it"}
}

// kindAt is when to ask for the minion's master_type: once after a claim was seen,
// unless the minion answered lately that all its masters serve it.
func (c HighstateView) kindAt() time.Time {
	at := c.Since.Add(kindFirst)
	if again := c.Hot.Add(kindFor); !c.Hot.IsZero() && again.After(at) {
		at = again
	}
	if again := c.KindAsked.Add(grow(2*kindFirst, c.KindAsks-1, kindFor)); c.KindAsks > 0 && again.After(at) {
		at = again
	}
	return at
}

// peerAskAt is when to ask the minion about another master's job.
func (c HighstateView) peerAskAt() time.Time {
	last := c.Since
	for _, t := range []time.Time{c.Asked, c.Traced} {
		if t.After(last) {
			last = t
		}
	}
	return last.Add(grow(peerAskFirst, c.Asks, peerAskMost))
}

// askAt is when to ask the minion about the jid: some time after the publish (or after
// the claim was first seen), then with back-off.
func (c HighstateView) askAt() time.Time {
	last := c.Since
	for _, t := range []time.Time{c.Published, c.Asked, c.Traced} {
		if t.After(last) {
			last = t
		}
	}
	if c.Missing {
		return last.Add(askFirst) // until it is certain
	}
	return last.Add(grow(askFirst, c.Asks, askMost))
}
