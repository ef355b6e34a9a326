package autoscaling

import (
	"maps"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/fleet"
)

// member is what AutoScaling says of an instance of a named group.
type member struct {
	group  string
	state  string // its lifecycle state
	reuses bool   // the group takes instances back into its warm pool
}

// ends reports whether its group ends the instance, which a hook still holds. On its way
// back into the warm pool an instance looks the same.
func (m member) ends() bool { return m.state == "Terminating:Wait" && !m.reuses }

// leaving reports whether the instance is on its way out of the group, or out.
func (m member) leaving() bool {
	for _, s := range []string{"Terminat", "Detach", "Warmed:Terminat"} {
		if strings.HasPrefix(m.state, s) {
			return true
		}
	}
	return false
}

// waits returns the transition that a hook holds up; empty: none.
func (m member) waits() Kind {
	switch m.state {
	case "Pending:Wait", "Warmed:Pending:Wait":
		return Launched
	case "Terminating:Wait", "Warmed:Terminating:Wait":
		return Ended
	}
	return ""
}

// facts are what one pass has found out.
type facts struct {
	members   map[string]member       // of the named groups
	rows      map[string]fleet.Minion // all that say LAUNCH, and those of members
	masters   map[string]bool         // whose rows say LAUNCH
	instances map[string]Instance     // EC2's words on those that it was asked for
	away      bool                    // EC2 did not answer
	bad       map[string]bool         // of which a row cannot be read: nothing is done
	since     time.Time               // the fleet's birth
	inferred  int                     // terminations that were inferred lately, by any master
}

// memory is what one pass leaves to the next.
type memory struct {
	gone  map[string]bool // EC2, or its group, said so in the last pass
	held  map[string]bool // by the termination limit, until an operator releases them
	first bool            // of some that was said so for the first time: see secondAfter
}

// plan is what follows.
type plan struct {
	adds    []fleet.Change
	retire  []string
	tend    []Message // instances that a hook holds
	revived []string  // in service, though their rows say TERMINATE
	unknown []string  // LAUNCH, in no group, and EC2 does not know them
	next    memory
}

// ask returns the ids that EC2 must be asked for: those that are in no group, or
// leaving it, and members without a row.
func (f facts) ask() []string {
	ids := map[string]bool{}
	for id := range f.launched() {
		if m, listed := f.members[id]; !listed || m.leaving() {
			ids[id] = true
		}
	}
	for id, m := range f.members {
		if _, found := f.rows[id]; !found && !m.leaving() && !f.bad[id] {
			ids[id] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// launched returns the instances whose rows, in either table, say LAUNCH. A name
// that is no instance id is none of EC2's to judge.
func (f facts) launched() map[string]bool {
	ids := maps.Clone(f.masters)
	if ids == nil {
		ids = map[string]bool{}
	}
	for id, row := range f.rows {
		if row.Status == fleet.Launch {
			ids[id] = true
		}
	}
	maps.DeleteFunc(ids, func(id string, _ bool) bool { return f.bad[id] || !instanceID.MatchString(id) })
	return ids
}

// decide says what follows from facts. It accepts only EC2's own answer, given in two
// passes, for a termination, and of a minion that a hook holds its group's, for what
// AutoScaling terminates it never takes back. To be in no group is none: instances are detached,
// stopped, put on standby or into a warm pool. Nor is EC2's not knowing an
// instance, which is what a wrong account or region looks like, unless EC2 called
// it terminated in the pass before: it forgets such ones after an hour.
func decide(f facts, m memory) plan {
	p := plan{next: memory{gone: map[string]bool{}, held: map[string]bool{}}}
	for _, id := range slices.Sorted(maps.Keys(f.members)) {
		p.member(f, id, f.members[id])
	}
	if f.away { // what it said before still holds, and is not said twice
		p.next = m
		return p
	}
	asked := f.ask()
	launched := f.launched()
	var ready []string
	for _, id := range asked {
		i, known := f.instances[id]
		ends := f.members[id].ends() && !f.masters[id]
		switch {
		case !launched[id]:
		case known && !i.Gone() && !ends:
		case m.gone[id] && m.held[id]:
			p.next.gone[id], p.next.held[id] = true, true
		case m.gone[id]:
			p.next.gone[id] = true
			ready = append(ready, id)
		case known:
			p.next.gone[id], p.next.first = true, true
		default:
			p.unknown = append(p.unknown, id)
		}
	}
	if f.inferred+len(p.next.held)+len(ready) <= limit(len(launched)+f.inferred) {
		p.retire = ready
		for _, id := range ready { // the hook waits for what is about to be written
			if m := f.members[id]; m.waits() == Ended && !f.masters[id] {
				p.tend = append(p.tend, Message{Kind: Ended, InstanceID: id, Group: m.group})
			}
		}
		return p
	}
	for _, id := range ready {
		p.next.held[id] = true
	}
	return p
}

// member plans for one instance that a group lists.
func (p *plan) member(f facts, id string, m member) {
	row, found := f.rows[id]
	i, known := f.instances[id]
	added := false
	switch {
	case f.bad[id]:
		return
	case !found && known && !i.Gone() && !m.leaving():
		p.adds, added = append(p.adds, fleet.Add{InstanceID: id, Group: m.group, Adopted: i.Launched.Before(f.since)}),
			true
	case found && row.Status == fleet.Terminate && m.state == "InService":
		p.revived = append(p.revived, id)
	}
	// A launch is tended if the row says so, or will; a termination if the row says so,
	// and a master's always: its row says so only when it is gone.
	launch, end := added || row.Status == fleet.Launch, row.Status == fleet.Terminate || f.masters[id]
	if kind := m.waits(); kind == Launched && launch || kind == Ended && end {
		p.tend = append(p.tend, Message{Kind: kind, InstanceID: id, Group: m.group})
	}
}
