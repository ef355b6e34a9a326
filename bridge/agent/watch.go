package agent

import (
	"maps"
	"slices"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

const (
	// stillFor: a master's bridge writes a heartbeat every 5 s, so one is late by half an
	// interval. That alone takes no master off the list: its ports must be silent too.
	stillFor = 7500 * time.Millisecond
	// unreadyReads is how many reads in a row must say "not ready". The first is enough if
	// the master does not answer either: an older bridge says so for a moment at its
	// start, of a master that serves.
	unreadyReads = 2
	// rowlessFor: an address on the list that no row names belongs to a master whose
	// tombstone has expired, or the read was partial. The former can wait.
	rowlessFor = 10 * time.Minute
)

// Watch decides which masters are on the list of one minion. It has no effects, and is
// for one goroutine.
type Watch struct {
	minion string
	order  Order
	follow Follow

	detector decide.FailureDetector
	unready  map[string]int       // reads in a row in which a row was not ready, by instance
	rowless  map[string]time.Time // listed addresses without a row, since when
	losing   []string             // addresses that the last decision would have removed
	away     map[string]bool      // addresses that left because they no longer served
}

// NewWatch returns a Watch for the minion of that name, which determines its order of
// masters.
func NewWatch(minion string, order Order, follow Follow) *Watch {
	return &Watch{minion: minion, order: order, follow: follow,
		unready: map[string]int{}, rowless: map[string]time.Time{}, away: map[string]bool{}}
}

// Observe records the table. now must be read after the table was. Only this host's
// clock counts; the times in rows do not.
func (w *Watch) Observe(masters []fleet.Master, listed []string, now time.Time) {
	if len(masters) == 0 {
		return // an empty table says nothing, see Decide
	}
	w.detector.Observe(masters, now)
	named, unready := map[string]bool{}, map[string]int{}
	for _, m := range masters {
		named[m.IPAddr] = true
		if !m.Ready {
			unready[m.InstanceID] = w.unready[m.InstanceID] + 1
		}
	}
	w.unready = unready
	maps.DeleteFunc(w.away, func(address string, _ bool) bool { return !named[address] })
	for _, address := range listed {
		if _, since := w.rowless[address]; !since {
			w.rowless[address] = now
		}
	}
	maps.DeleteFunc(w.rowless, func(address string, _ time.Time) bool {
		return named[address] || !slices.Contains(listed, address)
	})
}

// Probes returns the addresses for which Decide needs to know whether they answer: of
// masters that could join, and of listed ones whose heartbeat is late or that are not
// ready. If a listed one may have to make way for a better one, all other listed ones
// are probed too: a heartbeat says that a master lived a moment ago. In the steady state
// there are none.
func (w *Watch) Probes(o Observation) []string {
	listed := func(m fleet.Master) bool { return slices.Contains(o.Listed, m.IPAddr) }
	uncertain := slices.ContainsFunc(o.Masters, func(m fleet.Master) bool {
		return listed(m) && m.Status != fleet.Terminate && (m.Draining || !m.Ready)
	})
	var probes []string
	for _, m := range o.Masters {
		_, err := NewMaster(m)
		switch {
		case err != nil:
		case listed(m) && (uncertain || !m.Ready || !w.beats(m)), !listed(m) && m.Ready && m.Status == fleet.Launch:
			probes = append(probes, m.IPAddr)
		}
	}
	for address := range w.rowless {
		probes = append(probes, address)
	}
	slices.Sort(probes)
	return slices.Compact(probes)
}

// beats reports whether the heartbeat of a row moves, or was not observed for long
// enough.
func (w *Watch) beats(m fleet.Master) bool {
	p := w.detector.Of(m.InstanceID, stillFor)
	return p == decide.Beating || p == decide.Unseen
}
