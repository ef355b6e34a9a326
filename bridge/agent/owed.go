package agent

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// recall takes up a restart that is owed, though this agent did not write the
// list, or does not know that it did.
func (a *Agent) recall() {
	if a.restart.Owed() {
		return
	}
	if a.unsettled {
		a.settle()
		return
	}
	owed, err := a.o.File.Owed()
	a.tell("owed", slog.LevelError, "restart that may be owed is not known", err)
	if owed {
		a.owe("the list was written, and the minion not restarted since")
	}
}

func (a *Agent) owe(why string) {
	splay := a.splay()
	a.restart.Owe(time.Now(), splay)
	a.log.Info("minion is to be restarted", "why", why, "splay", splay.Round(time.Millisecond), "urgent", a.gone())
}

// restartMinion restarts the minion if nothing speaks against it.
func (a *Agent) restartMinion(ctx context.Context) {
	running, err := a.o.Minion.Jobs()
	a.tell("jobs", slog.LevelWarn, "running jobs are not known", err)
	if err != nil {
		running = []Job{{JID: "(unknown)"}} // waits as for any job
	}
	if wait := a.restart.Decide(running, a.gone(), time.Now()); wait != "" {
		a.tell("wait", slog.LevelInfo, "restart of the minion waits", errors.New(wait))
		return
	}
	a.tell("wait", slog.LevelInfo, "restart of the minion waits", nil)
	forgotten, err := a.o.File.ForgetAlive(a.listed)
	a.tell("schedule", slog.LevelWarn, "stale jobs stay in the minion's schedule", err)
	begun := time.Now()
	if err := a.o.Minion.Restart(ctx); err != nil {
		pause := a.restart.Failed(time.Now())
		a.log.Error("minion is not restarted", "err", err, "again_in", pause)
		return
	}
	a.restart.Done(begun)
	a.current, a.missed = "", 0 // it turns to the first on its list
	a.log.Info("minion restarted", "took", time.Since(begun).Round(time.Millisecond), "masters", a.listed, "forgotten", forgotten)
	a.settle()
}

func (a *Agent) settle() {
	err := a.o.File.Settle()
	a.unsettled = err != nil
	a.tell("settle", slog.LevelError, "restart is not noted: the next agent will restart the minion again", err)
}
