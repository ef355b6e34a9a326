package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// recall looks whether a restart is owed, which another agent may have left
// behind, and how soon it is to be.
func (a *Agent) recall() {
	if a.unsettled {
		a.settle()
		return
	}
	debt, err := a.o.File.Debt()
	a.tell("owed", slog.LevelError, "restart that may be owed is not known", err)
	if err != nil {
		return
	}
	if a.debt.Owed && !debt.Owed && a.restart.Owed() {
		a.log.Info("minion needs no restart: it runs with the list that is there")
		a.restart.Forgive()
		a.haste = 0
	}
	a.debt = debt
	a.weigh()
}

// weigh says by when the minion is to be restarted, if it is. It is asked again
// when anything changed that this hangs on.
func (a *Agent) weigh() {
	if !a.debt.Owed || len(a.listed.Masters) == 0 {
		return
	}
	haste, why := Need{List: addressesOf(a.listed.Masters), Fit: a.fit(), Running: a.debt.Running, Current: a.current,
		Gone: a.gone(), Lonely: a.lonely(), Back: a.last.Back}.haste()
	if a.restart.Owed() && haste == a.haste {
		return
	}
	least, most := a.crowd().splay(haste, a.o.Splay, a.o.Settle)
	// The restart may have waited for a part of that already: before it became urgent
	// for a while, or with another agent. One of several masters was lost only now,
	// however old the list is.
	if haste == Whenever || haste == OneLeft && !a.restart.Owed() {
		_, soon := a.crowd().splay(Soon, a.o.Splay, a.o.Settle)
		most = remaining(least, most, soon, time.Since(a.debt.Since))
	}
	splay := least + rand.N(most-least+1)
	a.restart.Owe(time.Now(), splay, haste < a.haste)
	a.haste = haste
	a.log.Info("minion is to be restarted", "why", why, "splay", splay.Round(time.Millisecond), "urgent", haste == Now)
}

// remaining is the longest wait of one that has waited already. Many agents have
// waited for as long: what they draw from is never shorter than spread, so that
// their minions do not start in the same seconds.
func remaining(least, most, spread, waited time.Duration) time.Duration {
	return min(most, max(most-waited, least+spread))
}

// fit are the masters that could be on the list. Before the first decision, those
// that are.
func (a *Agent) fit() []string {
	if a.last.Fit == nil {
		return addressesOf(a.listed.Masters)
	}
	return a.last.Fit
}

// crowd is what is known of the other agents. At its first start a minion is none
// of those that masters count.
func (a *Agent) crowd() Crowd {
	c := Crowd{Minions: a.last.Crowd, Masters: len(a.fit()), Lost: max(a.last.Lost, 1), Follow: 1,
		OnFirst: a.o.Order == Sorted && !a.o.Follow.hot()}
	if a.listed.Hot {
		c.Follow = len(a.listed.Masters)
	}
	if len(a.debt.Running.Masters) == 0 && a.lonely() {
		c.Minions = 0
	}
	return c
}

// restartedByOthers settles the debt of a minion that was restarted by somebody
// else: its process is another than the one that ran when the list was written.
func (a *Agent) restartedByOthers() {
	if !a.debt.Owed || a.o.Minion.Process() == "" || a.debt.Running.sameProcess(a.o.Minion.Process()) {
		return
	}
	a.log.Info("minion was restarted, by others, with the list that is there", "masters", addressesOf(a.listed.Masters))
	a.restarted(time.Now())
}

// restartMinion restarts the minion if nothing speaks against it.
func (a *Agent) restartMinion(ctx context.Context) {
	if a.awaitsProof() {
		a.tell("wait", slog.LevelInfo, "restart of the minion waits", errors.New("masters are to know its key before it asks them for the first time"))
		return
	}
	running, err := a.o.Minion.Jobs()
	a.tell("jobs", slog.LevelWarn, "running jobs are not known", err)
	if err != nil {
		running = []Job{{JID: "(unknown)"}} // waits as for any job
	}
	if wait := a.restart.Decide(running, a.urgent(), time.Now()); wait != "" {
		a.tell("wait", slog.LevelInfo, "restart of the minion waits", errors.New(wait))
		return
	}
	a.tell("wait", slog.LevelInfo, "restart of the minion waits", nil)
	listed := addressesOf(a.listed.Masters)
	forgotten, err := a.o.File.ForgetAlive(listed)
	a.tell("schedule", slog.LevelWarn, "stale jobs stay in the minion's schedule", err)
	a.trust()
	begun := time.Now()
	if err := a.o.Minion.Restart(ctx); err != nil {
		pause := a.restart.Failed(time.Now())
		a.log.Error("minion is not restarted", "err", err, "again_in", pause)
		return
	}
	a.log.Info("minion restarted", "took", time.Since(begun).Round(time.Millisecond), "masters", listed, "forgotten", forgotten)
	a.restarted(begun)
}

// awaitsProof reports whether the minion has never run and is better started a moment
// later: once its proof is written a master can accept its key before it asks.
func (a *Agent) awaitsProof() bool {
	first := len(a.debt.Running.Masters) == 0 && a.o.Minion.Process() == "" && a.lonely()
	return a.o.Proof != nil && first && !a.o.Proof.Written() && time.Since(a.began) < proofBefore
}

// restarted notes that the minion runs with the list that is there.
func (a *Agent) restarted(begun time.Time) {
	a.restart.Done(begun)
	a.current, a.haste = "", 0 // it turns to the first on its list
	clear(a.missed)
	a.settle()
}

func (a *Agent) settle() {
	err := a.o.File.Settle()
	a.unsettled = err != nil
	if err == nil {
		a.debt = Debt{}
	}
	a.tell("settle", slog.LevelError, "restart is not noted: the next agent will restart the minion again", err)
}
