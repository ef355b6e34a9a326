package agent

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// look finds out which masters the minion is connected to, and whether they answer.
func (a *Agent) look(ctx context.Context) {
	listed, err := a.o.File.Read()
	a.tell("file", slog.LevelError, "drop-in is not read", err)
	if err == nil {
		a.listed = listed
		for _, m := range listed.Masters {
			if _, named := a.places[m.Address]; !named {
				a.places[m.Address] = m
			}
		}
	}
	a.connections(ctx)
	a.restartedByOthers()
	if a.current == "" { // it has no list yet, and nobody serves it
		clear(a.missed)
		a.readNow()
		return
	}
	a.probe(ctx)
	a.weigh()
}

// connections finds out which masters the minion is connected to.
func (a *Agent) connections(ctx context.Context) {
	connected, err := a.o.Minion.Connected(ctx, a.known())
	a.tell("connections", slog.LevelWarn, "minion's connections are not known", err)
	a.connected = connected
	if err != nil || len(connected) > 0 || !a.portsKnown() {
		a.alone = 0
	} else {
		a.alone++
	}
	if current := a.pick(connected); current != a.current {
		a.log.Debug("minion's master", "master", current, "before", a.current)
		a.current, a.reads = current, 0
	}
}

// known are the masters that the minion may be connected to, those listed first:
// one that left the list serves it until the restart. Rows say their ports, which
// the file does not where they differ.
func (a *Agent) known() []Master {
	var known []Master
	for _, m := range a.listed.Masters {
		if place, named := a.places[m.Address]; named {
			m = place
		}
		known = append(known, m)
	}
	for _, address := range slices.Sorted(maps.Keys(a.places)) {
		if !a.lists(address) {
			known = append(known, a.places[address])
		}
	}
	return known
}

func (a *Agent) lists(address string) bool {
	return slices.ContainsFunc(a.listed.Masters, func(m Master) bool { return m.Address == address })
}

// portsKnown says whether a connection to any listed master would be seen. One of a
// file that leaves the publish ports to the masters' reports is not before a row
// was read.
func (a *Agent) portsKnown() bool {
	return !a.listed.Reported || !slices.ContainsFunc(a.listed.Masters, func(m Master) bool {
		place := a.places[m.Address]
		return place.InstanceID == "" && place.Ports.Publish == 0
	})
}

// probe asks the masters whose loss matters to the minion.
func (a *Agent) probe(ctx context.Context) {
	watched := a.watched()
	maps.DeleteFunc(a.missed, func(address string, _ int) bool { return !slices.Contains(watched, address) })
	for address, answers := range a.ask(ctx, watched) {
		switch {
		case !answers:
			switch a.missed[address]++; a.missed[address] {
			case 1:
				a.reads = 0
			case goneAfter:
				a.log.Warn("minion's master does not answer", "master", address)
			}
		case a.missed[address] >= goneAfter:
			a.log.Info("minion's master answers again", "master", address)
			fallthrough
		default:
			delete(a.missed, address)
		}
	}
	if len(a.missed) > 0 {
		a.readNow()
	} else {
		a.reads = 0
	}
}

// watched are the masters that are asked at each look: the one that the minion is
// connected to, or all that a minion follows, and those on its list.
func (a *Agent) watched() []string {
	if !a.listed.Hot && !a.debt.Running.Hot {
		return []string{a.current}
	}
	watched := append(a.serving(), addressesOf(a.listed.Masters)...)
	slices.Sort(watched)
	return slices.Compact(watched)
}

// serving are the masters by which the minion is served, as far as they live.
func (a *Agent) serving() []string {
	switch {
	case a.debt.Owed && a.debt.Running.Hot && len(a.debt.Running.Masters) > 0:
		return slices.Clone(a.debt.Running.Masters)
	case !a.debt.Owed && a.listed.Hot:
		return addressesOf(a.listed.Masters)
	}
	return []string{a.current}
}

// readNow lets the masters be read at once, for as long as that promises something
// new.
func (a *Agent) readNow() {
	if a.reads < failingReads {
		a.reads++
		a.nextRead = time.Now()
	}
}

// pick says which of the masters that the minion is connected to is its current
// one. A connection that is gone may come back: until there is another the minion
// still belongs to the master that it had, or to the first on its list.
func (a *Agent) pick(connected []string) string {
	switch {
	case slices.Contains(connected, a.current):
		return a.current
	case len(connected) > 0:
		for _, m := range a.listed.Masters {
			if slices.Contains(connected, m.Address) {
				return m.Address
			}
		}
		return connected[0]
	case a.current == "" && len(a.listed.Masters) > 0:
		return a.listed.Masters[0].Address
	}
	return a.current
}

// gone says whether the minion's masters are lost to it, as far as can be seen.
func (a *Agent) gone() bool {
	return a.current == "" || !slices.ContainsFunc(a.serving(), func(address string) bool { return a.missed[address] < goneAfter })
}

// lonely says whether the minion is connected to no master. A connection that was
// closed is often back at the next look: its master was restarted.
func (a *Agent) lonely() bool {
	return a.alone >= lonelyAfter || a.alone > 0 && len(a.debt.Running.Masters) == 0
}

// urgent says whether a restart that is owed is not to wait.
func (a *Agent) urgent() bool { return a.gone() || a.haste == Now }
