package queue

import (
	"context"
	"fmt"
	"maps"
	"time"

	"phoenix/bridge/fleet"
)

const (
	// clearings: a master that has cleared twice since we first looked has begun at
	// least once to read terminations after our instance's was written.
	clearings = 2
	// deadAfter: a master whose heartbeat stands still for so long on our clock
	// deletes nothing. It does so when it is back.
	deadAfter = time.Minute
)

// sighting is another master as it was first seen while an instance waits.
type sighting struct {
	incarnation string
	cleared     int64
	beat        int64     // the last that was seen
	beatAt      time.Time // since when
}

// asksMasters says whether what a hook waits for is for the masters to say.
func (h *Hooks) asksMasters(w *wait, row fleet.Minion) bool {
	return h.isNewMaster(w) || w.Kind == Ended && row.Status == fleet.Terminate
}

// living gives the masters that live, by id.
func (h *Hooks) living(ctx context.Context) (map[string]fleet.Master, error) {
	rows, err := h.store.Masters(ctx)
	if _, err = fleet.WithoutBadRows(err); err != nil {
		return nil, fmt.Errorf("list masters: %w", err)
	}
	living := map[string]fleet.Master{}
	for _, m := range rows {
		if m.Status == fleet.Launch {
			living[m.InstanceID] = m
		}
	}
	return living, nil
}

// others are those but our own.
func (h *Hooks) others(living map[string]fleet.Master) map[string]fleet.Master {
	others := maps.Clone(living)
	delete(others, h.cfg.Self)
	return others
}

// forgotten says whether each of the other masters that live has deleted the
// instance's keys: by their own word, see fleet.Master.Cleared. It is asked again
// and again, from when the instance's row says TERMINATE.
func (w *wait) forgotten(others map[string]fleet.Master, now time.Time) bool {
	if w.others == nil {
		w.others = map[string]*sighting{}
	}
	all := true
	for id, m := range others {
		s := w.others[id]
		if s == nil {
			s = &sighting{incarnation: m.Incarnation, cleared: m.Cleared, beat: m.Heartbeat, beatAt: now}
			w.others[id] = s
		}
		if m.Heartbeat != s.beat {
			s.beat, s.beatAt = m.Heartbeat, now
		}
		if m.Incarnation != s.incarnation { // it counts from 0, since after we looked
			s.incarnation, s.cleared = m.Incarnation, 0
		}
		if m.Cleared < s.cleared+clearings && now.Sub(s.beatAt) < deadAfter {
			all = false
		}
	}
	return all
}
