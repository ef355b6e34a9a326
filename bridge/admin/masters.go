package admin

import (
	"context"

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
