package agent

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// Decide says what to do, after Observe recorded the same table.
func (w *Watch) Decide(o Observation, now time.Time) Decision {
	if len(o.Masters) == 0 {
		return hold("the fleet's table of masters is empty")
	}
	trusted, err := w.trusted(o)
	if err != nil {
		return hold(err.Error())
	}
	d := Decision{Joined: map[string]string{}, Left: map[string]string{}}
	if o.Trusted != "" && trusted != o.Trusted {
		d.Trust = trusted
	}
	o.Trusted = trusted
	members := w.members(o, now, &d)
	before := w.losing
	w.losing = slices.Sorted(maps.Keys(d.Left))
	switch {
	case len(members) == 0 && len(o.Listed) == 0:
		return hold("no master is ready that this minion could trust and reach")
	case len(members) == 0:
		return hold("no master would be left: " + reasons(d.Left))
	case len(w.losing) > 1 && !subset(w.losing, before):
		doubtful := hold(fmt.Sprintf("%s would leave at once, which must be seen twice: %s",
			plural.Of(len(w.losing), "master"), reasons(d.Left)))
		doubtful.Doubt = true
		return doubtful
	}
	d.Doubt = slices.ContainsFunc(o.Masters, func(row fleet.Master) bool {
		return w.unready[row.InstanceID] == 1 && slices.Contains(o.Listed, row.IPAddr)
	})
	d.Fit, d.Lost = addressesOf(members), len(d.Left)
	for address := range d.Left {
		w.away[address] = true
	}
	for _, address := range d.Fit {
		if w.away[address] {
			d.Returned = append(d.Returned, address)
		}
	}
	for _, row := range o.Masters {
		if row.Status == fleet.Launch {
			d.KnownMinions = max(d.KnownMinions, row.Minions)
		}
	}
	if w.follow.hot() {
		d.List = w.followed(members, o, &d).Hot()
		return d
	}
	if d.Changed() {
		w.arrange(members, o, d.Joined)
	}
	d.List = NewList(members[0], members[1:]...)
	return d
}

// members returns the masters that could be on the list, those that are on it first, in
// its order. It records in d which join and which leave.
func (w *Watch) members(o Observation, now time.Time, d *Decision) []Master {
	var members, weak []Master
	for _, address := range o.Listed {
		m, removal, inferior := w.keep(address, o, now)
		switch {
		case removal != "":
			d.Left[address] = removal
		case inferior != "":
			weak = append(weak, m)
			d.Left[address] = inferior
		default:
			members = append(members, m)
		}
	}
	strong := slices.ContainsFunc(o.Masters, func(row fleet.Master) bool {
		return row.Ready && !row.Draining && o.Answers[row.IPAddr] && slices.ContainsFunc(members,
			func(m Master) bool { return m.Address == row.IPAddr })
	})
	join := func(eligible func(fleet.Master) bool, why string) {
		for _, row := range o.Masters {
			if m, err := NewMaster(row); err == nil && eligible(row) && row.MasterKeySHA256 == o.Trusted &&
				!slices.Contains(o.Listed, m.Address) {
				if _, twice := d.Joined[m.Address]; !twice {
					members = append(members, m)
					d.Joined[m.Address] = why
				}
			}
		}
	}
	join(func(row fleet.Master) bool { return !row.Draining && w.eligible(row, o) }, "ready")
	if strong || len(d.Joined) > 0 {
		return members
	}
	// No better master is available: what is left of the list stays as it is, but
	// unresponsive ones make way for one that drains and serves until it ends.
	drainsOnly := func(row fleet.Master) bool { return row.Draining && w.eligible(row, o) }
	isUnresponsive := func(m Master) bool { return d.Left[m.Address] == unresponsive }
	replaced := slices.ContainsFunc(o.Masters, func(row fleet.Master) bool {
		return drainsOnly(row) && slices.ContainsFunc(weak, func(m Master) bool { return m.Address == row.IPAddr })
	})
	if !replaced && len(members) == 0 && !slices.ContainsFunc(weak, func(m Master) bool { return !isUnresponsive(m) }) {
		join(drainsOnly, "ready, though it drains")
		if len(d.Joined) > 0 {
			return members
		}
	}
	weak = slices.DeleteFunc(weak, func(m Master) bool { return replaced && isUnresponsive(m) })
	for _, m := range weak {
		delete(d.Left, m.Address)
	}
	members = append(members, weak...)
	place := func(m Master) int { return slices.Index(o.Listed, m.Address) }
	slices.SortFunc(members, func(a, b Master) int { return place(a) - place(b) })
	return members
}

// followed chooses from the members those that a minion is connected to at once. The
// order does not change while the same masters are chosen.
func (w *Watch) followed(members []Master, o Observation, d *Decision) List {
	ordered := slices.Clone(members)
	w.rank(ordered, o)
	list := w.follow.choose(ordered)
	chosen := addressesOf(list)
	maps.DeleteFunc(d.Joined, func(address string, _ string) bool { return !slices.Contains(chosen, address) })
	for _, address := range o.Listed {
		if _, left := d.Left[address]; !left && !slices.Contains(chosen, address) {
			d.Left[address] = "others come first"
		}
	}
	for _, address := range chosen {
		if _, joined := d.Joined[address]; !joined && !slices.Contains(o.Listed, address) {
			d.Joined[address] = "comes first now"
		}
	}
	if !d.Changed() { // members begin with the listed ones, in their order
		list = slices.DeleteFunc(slices.Clone(members),
			func(m Master) bool { return !slices.Contains(chosen, m.Address) })
	}
	return NewList(list[0], list[1:]...)
}

// rank sorts members into the minion's order, those that do not answer last.
func (w *Watch) rank(members []Master, o Observation) {
	w.order.sort(w.minion, members)
	slices.SortStableFunc(members, func(a, b Master) int { return o.silent(a) - o.silent(b) })
}

// arrange orders members, those that do not answer last. The minion is restarted in any
// case. Its current master stays the first, so that it moves only when it must, unless
// one that joins is first in the minion's order: that is how a new master gets its share.
func (w *Watch) arrange(members []Master, o Observation, joined map[string]string) {
	w.rank(members, o)
	if _, joins := joined[members[0].Address]; joins {
		return
	}
	i := slices.IndexFunc(members, func(m Master) bool { return m.Address == o.Current })
	if i > 0 && o.silent(members[i]) == 0 {
		m := members[i]
		copy(members[1:i+1], members[:i])
		members[0] = m
	}
}

func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(x string) bool { return !slices.Contains(b, x) })
}
