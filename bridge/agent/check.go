package agent

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// check finds out which masters the minion is connected to, and whether they answer.
func (a *Agent) check(ctx context.Context) {
	listed, err := a.o.File.Read()
	a.logChange("file", slog.LevelError, "drop-in is not read", err)
	if err == nil {
		a.listed = listed
		for _, m := range listed.Masters {
			if _, named := a.byAddress[m.Address]; !named {
				a.byAddress[m.Address] = m
			}
		}
	}
	a.connections(ctx)
	a.restartedByOthers()
	if a.current == "" { // it has no list yet, and no master serves it
		clear(a.missed)
		a.readNow()
		return
	}
	a.probeWatched(ctx)
	a.scheduleRestart()
	a.rescue()
}

// connections finds out which masters the minion is connected to.
func (a *Agent) connections(ctx context.Context) {
	connected, err := a.o.Minion.Connected(ctx, a.known())
	a.logChange("connections", slog.LevelWarn, "minion's connections are not known", err)
	a.connected = connected
	if len(connected) > 0 {
		a.restart.Connected()
	}
	if err != nil || len(connected) > 0 || !a.portsKnown() {
		a.disconnectedChecks, a.disconnectedSince = 0, time.Time{}
	} else {
		if a.disconnectedChecks++; a.disconnectedChecks == 1 {
			a.disconnectedSince = time.Now()
		}
	}
	if current := a.pick(connected); current != a.current {
		a.log.Debug("minion's master", "master", current, "before", a.current)
		a.current, a.reads = current, 0
	}
}

// known returns the masters that the minion may be connected to, the listed ones first.
// One that left the list serves it until the restart. The ports are those of the rows:
// the file does not name them where they differ.
func (a *Agent) known() []Master {
	var known []Master
	for _, m := range a.listed.Masters {
		if place, named := a.byAddress[m.Address]; named {
			m = place
		}
		known = append(known, m)
	}
	for _, address := range slices.Sorted(maps.Keys(a.byAddress)) {
		if !a.lists(address) {
			known = append(known, a.byAddress[address])
		}
	}
	return known
}

func (a *Agent) lists(address string) bool {
	return slices.ContainsFunc(a.listed.Masters, func(m Master) bool { return m.Address == address })
}

// portsKnown reports whether a connection to any listed master would be seen. A file that
// leaves the publish ports to the masters' reports does not name them, so a row must have
// been read.
func (a *Agent) portsKnown() bool {
	return !a.listed.Reported || !slices.ContainsFunc(a.listed.Masters, func(m Master) bool {
		place := a.byAddress[m.Address]
		return place.InstanceID == "" && place.Ports.Publish == 0
	})
}

// probeWatched probes the masters whose loss matters to the minion.
func (a *Agent) probeWatched(ctx context.Context) {
	watched := a.watched()
	maps.DeleteFunc(a.missed, func(address string, _ int) bool { return !slices.Contains(watched, address) })
	for address, answers := range a.probe(ctx, watched) {
		switch {
		case !answers:
			switch a.missed[address]++; a.missed[address] {
			case 1:
				a.reads = 0
			case unreachableAfter:
				a.log.Warn("minion's master does not answer", "master", address)
			}
		case a.missed[address] >= unreachableAfter:
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

// watched returns the masters that are probed at each check: the one that the minion is
// connected to, or all that it follows and all on its list.
func (a *Agent) watched() []string {
	if !a.listed.Hot && !a.pending.Running.Hot {
		return []string{a.current}
	}
	watched := append(a.serving(), addressesOf(a.listed.Masters)...)
	slices.Sort(watched)
	return slices.Compact(watched)
}

// serving returns the masters that serve the minion, as far as they live.
func (a *Agent) serving() []string {
	switch {
	case a.pending.Pending && a.pending.Running.Hot && len(a.pending.Running.Masters) > 0:
		return slices.Clone(a.pending.Running.Masters)
	case !a.pending.Pending && a.listed.Hot:
		return addressesOf(a.listed.Masters)
	}
	return []string{a.current}
}

// readNow makes the next read of the masters immediate, up to failingReads times in a
// row.
func (a *Agent) readNow() {
	if a.reads < failingReads {
		a.reads++
		a.nextRead = time.Now()
	}
}

// pick returns the current one of the masters that the minion is connected to. A lost
// connection may come back: until there is another, the current master is the one before,
// or the first on the list.
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

// unreachable reports whether none of the minion's masters answers.
func (a *Agent) unreachable() bool {
	return a.current == "" || !slices.ContainsFunc(a.serving(),
		func(address string) bool { return a.missed[address] < unreachableAfter })
}

// disconnected reports whether the minion is connected to no master. A connection that was
// closed is often back at the next check: its master was restarted.
func (a *Agent) disconnected() bool {
	return a.disconnectedChecks >= disconnectedAfter || a.disconnectedChecks > 0 && len(a.pending.Running.Masters) == 0
}

// hopeful reports whether a master lives of those that the minion was last started with.
func (a *Agent) hopeful() bool {
	fit := a.fit()
	return slices.ContainsFunc(a.pending.Running.Masters,
		func(address string) bool { return slices.Contains(fit, address) })
}

// urgent reports whether a pending restart must not wait.
func (a *Agent) urgent() bool { return a.unreachable() || a.urgency == Now }
