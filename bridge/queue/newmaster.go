package queue

import (
	"time"

	"phoenix/bridge/fleet"
)

// isNewMaster says whether a launching instance is to be a master.
func (h *Hooks) isNewMaster(w *wait) bool {
	role, _ := h.cfg.role(Item{}, w.Group)
	return w.Kind != Ended && role == Masters
}

// nextOfMaster decides for a launching master, whose group ends another one as soon
// as this one is in service: it must be one that minions can turn to. Whether its own
// minion's highstate succeeds is no matter of theirs: states that are broken shall end
// no master. How long to wait, the hook's own timeout says.
func nextOfMaster(w *wait, row fleet.Minion, ready bool) step {
	switch {
	case time.Since(w.begun) > tendFor, row.Status == fleet.Terminate:
		return drop
	case ready:
		return proceed
	}
	return stay
}
