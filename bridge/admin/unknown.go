package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
)

// Unknown is the error of an operation on several minions of which the fleet does not know
// some: all others are done. It is nil if there are none.
func Unknown(what string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	shown := strings.Join(ids[:min(len(ids), maxUnknown)], ", ")
	if more := len(ids) - maxUnknown; more > 0 {
		shown += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Errorf("%s %s: %w", what, shown, fleet.ErrNotFound)
}

// maxUnknown is how many ids that are not in the fleet are named.
const maxUnknown = 20

// Missing returns the ids, of those that are no globs, about which a history has nothing.
func (h *History) Missing(ids []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		return strings.ContainsAny(id, globbing) ||
			slices.ContainsFunc(h.Events, func(e Event) bool { return e.Minion == id })
	})
}

// globbing are the characters that make a glob of an id; see event.Glob.
const globbing = "*?["

// KnownIDs returns the minion ids that an administrator may mean: those of the keys of this
// master and, where reading it costs nothing, those of the fleet. What cannot be read is
// left out.
func (a Admin) KnownIDs(ctx context.Context) (ids []string) {
	if !a.Config.OnDynamoDB() {
		rows, _ := a.minions(ctx, fleet.Launch)
		for _, row := range rows {
			ids = append(ids, row.SaltID())
		}
	}
	if _, keys, _, err := open.Master(a.Config); err == nil {
		list, _ := keys.List()
		ids = slices.Concat(ids, list.Accepted, list.Pending, list.Denied)
	}
	return ids
}

// CheckKnown returns an error that names those of the ids that are not in the fleet.
func (a Admin) CheckKnown(ctx context.Context, what string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	instances, rows, err := a.rowsOf(ctx, ids)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return Unknown(what, slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		_, known := rows[id]
		return known || bad[instances[id]] != nil
	}))
}
