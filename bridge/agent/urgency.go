package agent

import (
	"slices"
	"time"
)

// Urgency is how soon a minion should be restarted with a list that was written.
type Urgency int

const (
	// Whenever: within agent.settle. Masters that the minion knows serve it.
	Whenever Urgency = iota + 1
	// OneLeft: of several masters that it follows, one still serves it, and others are
	// available. A restart certainly costs some seconds of silence, and a lost master often
	// comes back: so after some minutes.
	OneLeft
	// Soon: within agent.splay. It could be served better.
	Soon
	// Leaving: its master leaves the list, and still serves.
	Leaving
	// Now: no master serves it.
	Now
)

func (u Urgency) String() string {
	switch u {
	case Whenever:
		return "whenever"
	case OneLeft:
		return "one left"
	case Soon:
		return "soon"
	case Leaving:
		return "leaving"
	case Now:
		return "now"
	}
	return "none"
}

// UrgencyInput is what an urgency is based on.
type UrgencyInput struct {
	List         []string // what the drop-in says, at least one
	Fit          []string // all that could be on it: with agent.follow, more than are
	Running      Running  // what the minion was started with
	Current      string   // the master that it is connected to, if it follows one at a time
	Unreachable  bool     // that one does not answer, or none of those that it follows
	Disconnected bool     // it has been connected to none for several checks
	Returned     []string // masters that left the list while the agent watched, and are fit again
}

// Running is what a minion was started with, as far as known.
type Running struct {
	Masters []string
	Hot     bool   // it is connected to all of them at once
	Process string // names the process; empty: not known
}

// urgency returns how soon, and why.
func (n UrgencyInput) urgency() (Urgency, string) {
	var living, alternatives []string
	for _, address := range n.Running.Masters {
		if slices.Contains(n.Fit, address) {
			living = append(living, address)
			if address != n.Current {
				alternatives = append(alternatives, address)
			}
		}
	}
	switch {
	case n.Disconnected:
		return Now, "it is connected to no master"
	case n.Running.Hot && len(living) == 0 && n.Unreachable:
		return Now, "all masters that it follows are gone"
	case n.Running.Hot && len(living) == 0:
		return Leaving, "all masters that it follows left the list"
	case n.Running.Hot && len(living) == 1 && len(n.List) > 1:
		return OneLeft, "one is left of the masters that it follows"
	case n.Running.Hot:
		return Whenever, "the list changed, and masters that it follows serve it"
	case !slices.Contains(n.List, n.Current) && n.Unreachable:
		return Now, "its master is gone"
	case !slices.Contains(n.List, n.Current):
		return Leaving, "its master left the list"
	case n.Unreachable && len(alternatives) == 0 && len(n.List) > 1:
		return Now, "its master does not answer, and the running minion has no other one in its list that is ready"
	// The minions of a master that was away move back late: it may go again.
	case len(living) < 2 && n.List[0] != n.Current && !slices.Contains(n.Returned, n.List[0]):
		return Soon, "another master is the first of its list now, and of those that the running minion has in its list only one is ready"
	}
	return Whenever, "the list changed, and its master serves it"
}

const (
	// authentications is how many auth requests a second agents cause at a master by
	// restarting minions. A minion that starts sends one to each master that it connects
	// to. Salt needs some 10 ms of a worker for it, and has five workers. Random waits
	// bunch: at 25 on average no second has more than 50.
	authentications = 25
	// shortSplay keeps the minions of a lost master from asking the next one at the same
	// moment; a longer one would only leave them unserved for longer.
	shortSplay = 3 * time.Second
	// leavingSplay: agents read the masters at different moments, so with an interval of
	// a minute all have left within 102 s. A spot instance has a notice of 120 s.
	leavingSplay = 30 * time.Second
	// oneLeftLeast and oneLeftMost: a machine that is rebooted is back in that time, and if
	// the last master is lost as well the minion is restarted at once.
	oneLeftLeast, oneLeftMost = 5 * time.Minute, 15 * time.Minute
	// splayMost bounds a splay that is computed from a wrong row.
	splayMost = time.Hour
)

// FleetLoad is what an agent knows of the other minions, from the rows of masters.
type FleetLoad struct {
	Minions int  // of the fleet
	Masters int  // that they share once all have moved
	Lost    int  // masters that left
	Follow  int  // masters that each minion connects to when it starts
	OnFirst bool // all minions prefer the same master
}

// splay returns the shortest and the longest wait before a restart: what is configured,
// or as much longer as keeps the auth requests at each master below authentications.
func (c FleetLoad) splay(u Urgency, splay, settle time.Duration) (least, most time.Duration) {
	masters := float64(max(c.Masters, 1))
	if c.OnFirst {
		masters = 1
	}
	whole := float64(c.Minions*max(c.Follow, 1)) / masters / authentications
	if u >= Leaving && !c.OnFirst { // only the minions of those that left
		whole *= float64(c.Lost) / float64(c.Lost+max(c.Masters, 1))
	}
	needed := time.Duration(min(whole, splayMost.Seconds()) * float64(time.Second))
	switch u {
	case OneLeft:
		least, most = min(settle, oneLeftLeast), min(settle, oneLeftMost)
	case Soon:
		most = splay
	case Leaving:
		most = min(splay, leavingSplay)
	case Now:
		most = min(splay, shortSplay)
	default:
		most = settle
	}
	return least, max(most, least+needed)
}
