package autoscaling

import (
	"context"
	"strings"
	"time"

	"phoenix/bridge/fleet"
)

// emptyChecks: so often in a row no minion must be left on a master before it goes.
// One that has just lost its connection comes back within seconds.
const emptyChecks = 2

// lastFor bounds how long the hook of the last master that serves is extended: long
// enough to launch another one, or for somebody to react to an alarm. AutoScaling scales
// in by zones and launch templates, and knows nothing of which masters are ready.
const lastFor = time.Hour

// nextOfEnded decides for a terminating minion: it goes at once. Its row says
// TERMINATE, which keeps it out of all masters whatever becomes of its key.
func nextOfEnded(w *wait, row fleet.Minion, now time.Time) step {
	switch {
	case row.Status == fleet.Terminate:
		return proceed
	case now.Sub(w.begun) > tendFor:
		return drop
	}
	return stay // not recorded
}

// nextOfLeaving decides for a terminating master. Its row says draining: agents
// leave it, each when no job runs, and no highstate is begun there. It goes when no
// minion is left, which only its own bridge can see, or when the hook's own time is
// over. Its own bridge extends it only while no other master serves and minions are
// connected: they have nowhere to go.
func (h *Hooks) nextOfLeaving(w *wait, masters map[string]fleet.Master, timeout time.Duration,
	now time.Time) (step, string) {
	last := h.liveness.last(masters, w.InstanceID, now)
	if last {
		w.lastAt = now
	}
	master, found := masters[w.InstanceID]
	switch {
	case !found || master.Status == fleet.Terminate:
		return proceed, "its row says that it is gone"
	case last && now.Sub(w.begun) >= lastFor:
		return proceed, "its time is over, and no other master serves"
	case !last && now.Sub(later(w.begun, w.lastAt)) >= timeout:
		return proceed, "its time is over"
	case w.InstanceID != h.cfg.Self || h.cfg.Left == nil:
		return stay, ""
	}
	minions, err := h.cfg.Left()
	if err != nil {
		if !w.uncounted {
			h.log.Warn("minions of this master not counted; its lifecycle hook runs until its timeout", "err", err)
		}
		w.empty, w.uncounted = 0, true
		return stay, ""
	}
	if w.empty++; minions > 0 {
		w.empty = 0
	}
	if w.empty >= emptyChecks {
		return proceed, "no minion is left on it"
	}
	if last && minions > 0 {
		if !w.lastSaid {
			h.log.Warn("terminating master is kept: minions are connected, and no other master serves", "minions",
				minions, "for", lastFor)
			w.lastSaid = true
		}
		return beat, ""
	}
	return stay, ""
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// retire says in its row that a master is at its end, once nothing holds it any more:
// who is still there leaves at once, and its claims are taken over. That it cannot come
// back is AutoScaling's own answer, requested once more. If that fails, the message that
// EC2 has terminated it will do it.
func (h *Hooks) retire(ctx context.Context, m Message) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), completeWithin)
	defer cancel()
	states, err := h.states(ctx, []string{m.InstanceID})
	if err == nil && strings.HasPrefix(states[m.InstanceID], "Terminating:") {
		err = h.store.RetireMaster(ctx, m.InstanceID)
	}
	if err != nil {
		h.log.Warn("master's hook completed, but its row does not say TERMINATE yet", "instance", m.InstanceID, "err",
			withHint(err))
	}
}
