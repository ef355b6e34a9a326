package autoscaling

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"phoenix/bridge/fleet"
)

const (
	// failuresFor is how long failed launches count. It is longer than three launches
	// that hang until the longest timeout of a lifecycle hook (7200 s).
	failuresFor = 24 * time.Hour
	// keptShown is how long a kept instance is reported.
	keptShown = time.Hour
)

// failuresInRow counts the instances of a group whose first highstate failed, or did
// not end before they were terminated, since the last success. An instance is what its
// row says, so that all masters count alike. The rows are those that changed within
// failuresFor; the instance itself does not count, nor does one whose highstate is
// still tried again, up to attempts.
func failuresInRow(rows []fleet.Minion, group, self string, attempts int) (failures int) {
	rows = slices.DeleteFunc(slices.Clone(rows), func(m fleet.Minion) bool {
		return m.Group != group || m.InstanceID == self || m.Adopted() || m.Attempt == 0
	})
	slices.SortFunc(rows, func(a, b fleet.Minion) int { return strings.Compare(a.Modified, b.Modified) })
	for _, m := range rows {
		switch {
		case m.HighstateRan && m.Status == fleet.Launch:
			failures = 0
		case m.HighstateRan: // when it succeeded, its row does not say any more
		case m.Status == fleet.Terminate, m.ClaimState == fleet.Failed && m.Attempt >= attempts:
			failures++
		}
	}
	return failures
}

// keep reports whether a launching instance is kept, though its first highstate
// failed: states that are broken would else have the group replace instances for ever.
// The instance goes into service as it is, where its failure can be examined.
func (h *Hooks) keep(ctx context.Context, w *wait) (bool, error) {
	if h.cfg.LaunchFailures == 0 {
		return false, nil
	}
	since := fleet.FormatTime(time.Now().Add(-failuresFor))
	var rows []fleet.Minion
	for _, status := range []fleet.Status{fleet.Launch, fleet.Terminate} {
		err := h.store.ByStatus(ctx, status, since, func(some []fleet.Minion) error {
			for _, m := range some {
				if m.Group == w.Group {
					rows = append(rows, m)
				}
			}
			return nil
		})
		if _, err = fleet.WithoutBadRows(err); err != nil {
			return false, fmt.Errorf("count failed launches of %s: %w", w.Group, err)
		}
	}
	return failuresInRow(rows, w.Group, w.InstanceID, h.cfg.Attempts) >= h.cfg.LaunchFailures, nil
}

// keptLaunches remembers the instances that this master kept.
type keptLaunches struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (k *keptLaunches) add(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at == nil {
		k.at = map[string]time.Time{}
	}
	k.at[id] = time.Now()
}

// Kept returns the instances that this master kept within the last hour though their
// first highstate failed.
func (h *Hooks) Kept() []string {
	h.kept.mu.Lock()
	defer h.kept.mu.Unlock()
	ids := []string{}
	for id, at := range h.kept.at {
		if time.Since(at) > keptShown {
			delete(h.kept.at, id)
			continue
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
