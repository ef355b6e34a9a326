package agent

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"
)

// look finds out which master the minion is connected to, and whether it answers.
func (a *Agent) look(ctx context.Context) {
	listed, err := a.o.File.Read()
	a.tell("file", slog.LevelError, "drop-in is not read", err)
	if err == nil {
		a.listed = listed
	}
	connected, err := a.o.Minion.Connected(ctx, a.listed)
	a.tell("connections", slog.LevelWarn, "minion's connections are not known", err)
	a.lonely = err == nil && len(connected) == 0
	if current := a.pick(connected); current != a.current {
		a.log.Debug("minion's master", "master", current, "before", a.current)
		a.current, a.missed, a.reads = current, 0, 0
	}
	if a.current == "" { // it has no list yet, and nobody serves it
		a.missed = 0
		a.readNow()
		return
	}
	if a.o.Minion.Answers(ctx, a.current) {
		if a.missed >= goneAfter {
			a.log.Info("minion's master answers again", "master", a.current)
		}
		a.missed, a.reads = 0, 0
		return
	}
	a.readNow()
	if a.missed++; a.missed == goneAfter {
		a.log.Warn("minion's master does not answer", "master", a.current)
		a.restart.Hurry(time.Now(), a.splay())
	}
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
		for _, address := range a.listed {
			if slices.Contains(connected, address) {
				return address
			}
		}
		return connected[0]
	case a.current == "" && len(a.listed) > 0:
		return a.listed[0]
	}
	return a.current
}

// gone says whether the minion's master is lost to it, as far as can be seen.
func (a *Agent) gone() bool { return a.current == "" || a.missed >= goneAfter }

// splay is a random wait before a restart: short where the minion serves nobody.
func (a *Agent) splay() time.Duration {
	most := a.o.Splay
	if a.gone() || a.lonely {
		most = min(most, shortSplay)
	}
	return rand.N(most + 1)
}
