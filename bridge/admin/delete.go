package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"phoenix/bridge/config"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
)

// DeleteKeys is the request of Delete.
type DeleteKeys struct {
	IDs   []string `json:"ids"` // exact: no globs
	State string   `json:"state"`
}

// DeletedKey is a key that was deleted.
type DeletedKey struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Digest string `json:"key_sha256"`
}

// Delete deletes the keys of ids in one state on this master, and returns those that
// it deleted. It needs no store: a key may be one of no minion that the store knows.
// An id that does not match id_pattern is taken as well, since Salt lets anyone leave
// such keys; package salt refuses what is no name of a file.
func (a Admin) Delete(ctx context.Context, r DeleteKeys) ([]DeletedKey, error) {
	state, ok := salt.States[r.State]
	if !ok {
		if r.State == "" {
			return nil, config.Invalid(errors.New("--state is needed: accepted, denied, pending or rejected (phoenix keys list shows them)"))
		}
		return nil, config.Invalid(fmt.Errorf("--state %q is none of %s", r.State,
			strings.Join(slices.Sorted(maps.Keys(salt.States)), ", ")))
	}
	if len(r.IDs) == 0 {
		return nil, config.Invalid(errors.New("no minion id"))
	}
	_, keys, master, err := open.Master(a.Config)
	if err != nil {
		return nil, err
	}
	var faults []error
	var names []string
	done := []DeletedKey{}
	for _, id := range r.IDs {
		digest, err := salt.DeleteKey(ctx, keys, master, id, state, "")
		if err != nil {
			faults = append(faults, err)
			continue
		}
		a.Record(r.State+" key deleted", id)
		done, names = append(done, DeletedKey{id, r.State, digest}), append(names, id)
	}
	if len(done) > 0 {
		a.notify(ctx, names...)
	}
	return done, errors.Join(faults...)
}
