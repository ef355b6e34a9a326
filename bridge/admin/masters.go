package admin

import (
	"context"
	"time"

	"phoenix/bridge/fleet"
)

// Masters returns the masters of the fleet.
func (a Admin) Masters(ctx context.Context) ([]fleet.Master, error) {
	masters, err := a.Store.Masters(ctx)
	if masters == nil {
		masters = []fleet.Master{} // [] in JSON, not null
	}
	if _, rest := fleet.WithoutBadRows(err); rest != nil {
		return nil, rest
	}
	return masters, err
}

// Serving returns the masters that minions can be connected to, as far as their rows
// say.
func Serving(masters []fleet.Master, lease time.Duration, now time.Time) []fleet.Master {
	var found []fleet.Master
	for _, m := range masters {
		if m.Status == fleet.Launch && m.Ready && !Stale(m, lease, now) {
			found = append(found, m)
		}
	}
	return found
}

// Stale reports whether a master's row was not written for a lease, by this host's clock.
func Stale(m fleet.Master, lease time.Duration, now time.Time) bool {
	at, err := fleet.ParseTime(m.Modified)
	return err == nil && now.Sub(at) > lease
}
