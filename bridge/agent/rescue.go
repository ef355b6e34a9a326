package agent

import (
	"math/rand/v2"
	"time"
)

const (
	// strandedAfter is how long a minion may be connected to no master, although its
	// master answers, until it is restarted with the list that it has. Salt's own tries
	// end sooner (auth_timeout 5 s, acceptance_wait_time 10 s, and a reconnect of ZeroMQ
	// within 30 s).
	strandedAfter = 2 * time.Minute
	// strandedMost bounds that time, which doubles with each restart that did not help: the
	// minion's key may be deleted.
	strandedMost = time.Hour
)

// rescue schedules the restart of a stranded minion, and cancels it if the minion
// connects. A minion can hang: 3007.17 can close the channel that it is connecting when
// its check of a lost master runs twice.
func (a *Agent) rescue() {
	if a.pending.Pending {
		return // the restart for the changed list serves
	}
	// Its time begins when its master answers: Salt connects to one that returns by itself.
	if !a.disconnectedSince.IsZero() && a.missed[a.current] > 0 {
		a.disconnectedSince = time.Now()
	}
	stranded := a.stranded()
	switch {
	case !stranded && a.restart.Pending():
		a.log.Info("restart of the minion is not needed now", "connected", len(a.connected) > 0)
		a.restart.Cancel()
		a.urgency = 0
	case stranded && !a.restart.Pending():
		least, most := a.fleetLoad().splay(Now, a.o.Splay, a.o.Settle)
		splay := least + rand.N(most-least+1)
		a.restart.Request(time.Now(), splay, false)
		a.urgency = Now
		a.log.Warn("restart of the minion scheduled", "why", "it is connected to no master, and its master answers",
			"since", a.disconnectedSince.Format(time.RFC3339),
			"splay", splay.Round(time.Millisecond), "urgent", true)
	}
}

// stranded reports whether the minion's process runs, no master serves it, and its master
// answers. A minion that was never accepted is connected to none; that is no reason. A
// process that ended is the service manager's: an operator may have stopped it.
func (a *Agent) stranded() bool {
	if a.disconnectedSince.IsZero() || time.Since(a.disconnectedSince) < a.restart.strandedAfter() ||
		a.current == "" || a.missed[a.current] > 0 || a.o.Minion.Process() == "" {
		return false
	}
	trusted, err := a.o.Minion.TrustedKey()
	return err == nil && trusted != ""
}
