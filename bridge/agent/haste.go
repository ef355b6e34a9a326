package agent

import (
	"slices"
	"time"
)

// Haste is how soon a minion is to be restarted with a list that was written.
type Haste int

const (
	// Whenever: within agent.settle. Masters that the minion knows serve it.
	Whenever Haste = iota + 1
	// OneLeft: of several masters that it follows one serves it still, and others
	// are there. A restart is some seconds of silence for sure, and the one that is
	// away often comes back: so after some minutes.
	OneLeft
	// Soon: within agent.splay. It could be served better.
	Soon
	// Leaving: its master goes, and still serves.
	Leaving
	// Now: nobody serves it.
	Now
)

func (h Haste) String() string {
	switch h {
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

// Need is what a haste leans on.
type Need struct {
	List    []string // what the drop-in says, at least one
	Fit     []string // all that could stand in it: with agent.follow more than do
	Running Running  // what the minion was started with
	Current string   // the master that it is connected to, if it follows one at a time
	Gone    bool     // that one does not answer, or none of those that it follows
	Lonely  bool     // it is connected to none, and not for a moment only
	Back    []string // masters that left the list while the agent watched, and are fit again
}

// Running is what a minion was started with, as far as is known.
type Running struct {
	Masters []string
	Hot     bool   // it follows all of them at once
	Process string // names the process; empty: not known
}

// haste says how soon, and why.
func (n Need) haste() (Haste, string) {
	var living, others []string
	for _, address := range n.Running.Masters {
		if slices.Contains(n.Fit, address) {
			living = append(living, address)
			if address != n.Current {
				others = append(others, address)
			}
		}
	}
	switch {
	case n.Lonely:
		return Now, "it is connected to no master"
	case n.Running.Hot && len(living) == 0 && n.Gone:
		return Now, "all masters that it follows are gone"
	case n.Running.Hot && len(living) == 0:
		return Leaving, "all masters that it follows left the list"
	case n.Running.Hot && len(living) == 1 && len(n.List) > 1:
		return OneLeft, "one is left of the masters that it follows"
	case n.Running.Hot:
		return Whenever, "the list changed, and masters that it follows serve it"
	case !slices.Contains(n.List, n.Current) && n.Gone:
		return Now, "its master is gone"
	case !slices.Contains(n.List, n.Current):
		return Leaving, "its master left the list"
	case n.Gone && len(others) == 0 && len(n.List) > 1:
		return Now, "its master does not answer, and it knows no other that lives"
	// A master that was away for a while does not fetch its minions back in a hurry:
	// it may go again.
	case len(living) < 2 && n.List[0] != n.Current && !slices.Contains(n.Back, n.List[0]):
		return Soon, "another master comes first, and it knows but one that lives"
	}
	return Whenever, "the list changed, and its master serves it"
}

const (
	// authentications are how many a master is asked for in a second by agents that
	// restart their minions. One that starts asks each master it turns to for one.
	// Salt needs some 10 ms of a worker for it, and has five workers. What agents
	// draw by chance bunches: at 25 on average no second has more than 50.
	authentications = 25
	// shortSplay keeps the minions of a lost master from knocking at the next one
	// at the same moment; longer would only leave them alone for longer.
	shortSplay = 3 * time.Second
	// leavingSplay: agents read the masters at moments of their own, so with an
	// interval of a minute all have gone within 102 s. A spot instance is told 120 s
	// before its end.
	leavingSplay = 30 * time.Second
	// oneLeftLeast and oneLeftMost: a machine that is started again is back in that
	// time, and if the last one is lost as well the minion is restarted at once.
	oneLeftLeast, oneLeftMost = 5 * time.Minute, 15 * time.Minute
	// splayMost bounds what a row that is wrong can make of a splay.
	splayMost = time.Hour
)

// Crowd is what an agent knows of the others: the rows of masters say it.
type Crowd struct {
	Minions int  // of the fleet
	Masters int  // that they share once all have moved
	Lost    int  // masters that left
	Follow  int  // masters that each minion turns to when it starts
	OnFirst bool // all minions prefer the same master
}

// splay is the shortest and the longest wait before a restart: what was
// configured, or as much longer as keeps masters from being asked for more than
// authentications.
func (c Crowd) splay(h Haste, splay, settle time.Duration) (least, most time.Duration) {
	masters := float64(max(c.Masters, 1))
	if c.OnFirst {
		masters = 1
	}
	whole := float64(c.Minions*max(c.Follow, 1)) / masters / authentications
	if h >= Leaving && !c.OnFirst { // only the minions of those that left
		whole *= float64(c.Lost) / float64(c.Lost+max(c.Masters, 1))
	}
	needed := time.Duration(min(whole, splayMost.Seconds()) * float64(time.Second))
	switch h {
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
