package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// loadPending reads whether a restart is pending, which an earlier agent may have left,
// and schedules it.
func (a *Agent) loadPending() {
	if a.clearFailed {
		a.clearPending()
		return
	}
	pending, err := a.o.File.PendingRestart()
	a.logChange("pending", slog.LevelError, "pending restart is not read", err)
	if err != nil {
		return
	}
	if a.pending.Pending && !pending.Pending && a.restart.Pending() {
		a.log.Info("minion runs with the current list; no restart needed")
		a.restart.Cancel()
		a.urgency = 0
	}
	a.pending = pending
	a.scheduleRestart()
}

// scheduleRestart sets when a pending restart is due. It is called again whenever
// something changed that this depends on.
func (a *Agent) scheduleRestart() {
	if !a.pending.Pending || len(a.listed.Masters) == 0 {
		return
	}
	urgency, why := UrgencyInput{List: addressesOf(a.listed.Masters), Fit: a.fit(), Running: a.pending.Running,
		Current:     a.current,
		Unreachable: a.unreachable(), Disconnected: a.disconnected(), Returned: a.last.Returned}.urgency()
	if a.restart.Pending() && urgency == a.urgency {
		return
	}
	least, most := a.fleetLoad().splay(urgency, a.o.Splay, a.o.Settle)
	// The restart may have waited for part of that already: before it was urgent for a
	// while, or under an earlier agent. The loss of one of several masters is recent,
	// however old the list is.
	if urgency == Whenever || urgency == OneLeft && !a.restart.Pending() {
		_, soon := a.fleetLoad().splay(Soon, a.o.Splay, a.o.Settle)
		most = remaining(least, most, soon, time.Since(a.pending.Since))
	}
	splay := least + rand.N(most-least+1)
	a.restart.Request(time.Now(), splay, urgency < a.urgency)
	a.urgency = urgency
	a.log.Info("restart of the minion scheduled", "why", why, "splay", splay.Round(time.Millisecond), "urgent",
		urgency == Now)
}

// remaining returns the longest wait of a restart that has waited already. Many agents
// have waited for as long: the interval that they draw from is never shorter than spread,
// so that their minions do not start in the same seconds.
func remaining(least, most, spread, waited time.Duration) time.Duration {
	return min(most, max(most-waited, least+spread))
}

// fit returns the masters that could be on the list; before the first decision, those
// that are.
func (a *Agent) fit() []string {
	if a.last.Fit == nil {
		return addressesOf(a.listed.Masters)
	}
	return a.last.Fit
}

// fleetLoad returns what is known of the other minions. At its first start a minion is
// not among those that masters count.
func (a *Agent) fleetLoad() FleetLoad {
	c := FleetLoad{Minions: a.last.KnownMinions, Masters: len(a.fit()), Lost: max(a.last.Lost, 1), Follow: 1,
		OnFirst: a.o.Order == Sorted && !a.o.Follow.hot()}
	if a.listed.Hot {
		c.Follow = len(a.listed.Masters)
	}
	if a.pending.Pending && len(a.pending.Running.Masters) == 0 && a.disconnected() {
		c.Minions = 0
	}
	return c
}

// restartedByOthers clears the pending restart of a minion that was restarted by something
// else: its process is not the one that ran when the list was written.
func (a *Agent) restartedByOthers() {
	if !a.pending.Pending || a.o.Minion.Process() == "" || a.pending.Running.sameProcess(a.o.Minion.Process()) {
		return
	}
	a.log.Info("minion was restarted by something else, with the current list", "masters",
		addressesOf(a.listed.Masters))
	a.restarted(time.Now())
}

// restartMinion restarts the minion unless the restart must still wait.
func (a *Agent) restartMinion(ctx context.Context) {
	if a.awaitsProof() {
		a.logChange("wait", slog.LevelInfo, "restart of the minion waits",
			errors.New("masters have not had the time to read the proof of its key"))
		return
	}
	if a.urgency == Now { // it may be connected since the last check, and run its first highstate
		a.connections(ctx)
		a.scheduleRestart()
		a.rescue()
		if !a.restart.Due(time.Now(), a.urgent(), a.hopeful()) {
			return
		}
	}
	running, err := a.o.Minion.Jobs()
	a.logChange("jobs", slog.LevelWarn, "running jobs are not known", err)
	if err != nil {
		running = []Job{{JID: "(unknown)"}} // waits as for any job
	}
	if wait := a.restart.Decide(running, a.urgent(), time.Now()); wait != "" {
		a.logChange("wait", slog.LevelInfo, "restart of the minion waits", errors.New(wait))
		return
	}
	a.logChange("wait", slog.LevelInfo, "restart of the minion waits", nil)
	listed := addressesOf(a.listed.Masters)
	removed, err := a.o.File.RemoveAlive(listed)
	a.logChange("schedule", slog.LevelWarn, "stale jobs stay in the minion's schedule", err)
	a.trust()
	begun := time.Now()
	if err := a.o.Minion.Restart(ctx); err != nil {
		pause := a.restart.Failed(time.Now())
		a.log.Error("minion is not restarted", "err", err, "again_in", pause)
		return
	}
	a.log.Info("minion restarted", "took", time.Since(begun).Round(time.Millisecond), "masters", listed,
		"removed", removed)
	a.restarted(begun)
}

// awaitsProof reports whether the minion has never run and should start a moment later:
// once its proof is written, a master can accept its key before its first auth request.
func (a *Agent) awaitsProof() bool {
	first := len(a.pending.Running.Masters) == 0 && a.o.Minion.Process() == "" && a.disconnected()
	return a.o.Proof != nil && first && !a.o.Proof.Readable(time.Now()) && time.Since(a.began) < proofBefore
}

// restarted records that the minion runs with the current list.
func (a *Agent) restarted(begun time.Time) {
	a.restart.Done(begun)
	a.current, a.urgency = "", 0 // it connects to the first on its list
	clear(a.missed)
	if !a.disconnectedSince.IsZero() {
		a.disconnectedSince = time.Now() // the new process has as long as the one before
	}
	a.clearPending()
}

// clearPending removes the record of a pending restart. If that fails it is tried again at
// each load.
func (a *Agent) clearPending() {
	err := a.o.File.ClearPending()
	a.clearFailed = err != nil
	if err == nil {
		a.pending = PendingRestart{}
	}
	a.logChange("clear", slog.LevelError,
		"record of the pending restart is not removed: the next agent restarts the minion again", err)
}
