package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"phoenix/bridge/fleet"
)

// The termination limit: at most that many instances are terminated within an hour because of
// messages alone, and as many by reconciling by itself.
const (
	limitLeast   = 10
	limitPercent = 5
	limitWindow  = time.Hour
)

// limit is the termination limit for a fleet of that size.
func limit(fleet int) int { return max(limitLeast, fleet*limitPercent/100) }

// terminationLimit counts terminations for all masters: by the rows that say when they were
// written, and besides by what this master wrote itself, whatever other hosts' clocks
// say and however late the index is.
type terminationLimit struct {
	store fleet.Store

	mu   sync.Mutex
	size int         // of the fleet, as last counted; 0: never
	own  []time.Time // terminations that this master wrote lately
}

// resize says how many instances the fleet has.
func (b *terminationLimit) resize(size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size = size
}

// wrote notes terminations that were written.
func (b *terminationLimit) wrote(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for range n {
		b.own = append(b.own, now)
	}
	const most = 100_000 // more than any limit
	if over := len(b.own) - most; over > 0 {
		b.own = append([]time.Time(nil), b.own[over:]...)
	}
}

// lately drops what is older than the window, and counts the rest.
func (b *terminationLimit) lately(now time.Time) int {
	old := 0
	for old < len(b.own) && now.Sub(b.own[old]) > limitWindow {
		old++
	}
	b.own = b.own[old:]
	return len(b.own)
}

// errEnough ends a listing.
var errEnough = errors.New("enough")

// room returns how many instances messages alone may still terminate. All
// terminations within the hour count, whoever reported them.
func (b *terminationLimit) room(ctx context.Context) (int, error) {
	b.mu.Lock()
	now := time.Now()
	most, own := limit(b.size), b.lately(now)
	b.mu.Unlock()
	if own >= most {
		return 0, nil
	}
	n := 0
	err := b.store.ByStatus(ctx, fleet.Terminate, fleet.FormatTime(now.Add(-limitWindow)),
		func(page []fleet.Minion) error {
			for _, row := range page {
				if endedLately(row, now) {
					n++
				}
			}
			if n >= most {
				return errEnough
			}
			return nil
		})
	if _, err = fleet.WithoutBadRows(err); err != nil && !errors.Is(err, errEnough) {
		return 0, fmt.Errorf("count terminations: %w", err)
	}
	return max(most-max(n, own), 0), nil
}

// endedLately reports whether a row that was written after the window's begin is a
// termination of that time. A tombstone is none: it was written a day later. Nor is a
// row from the future, by another host's clock: it would count for ever.
func endedLately(row fleet.Minion, now time.Time) bool {
	at, err := fleet.ParseTime(row.Modified)
	return row.Expires == 0 && err == nil && at.Before(now.Add(limitWindow))
}
