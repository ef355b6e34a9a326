package service

import (
	"context"
	"regexp"
	"slices"

	"phoenix/bridge/fleet"
)

// nameMap maps Salt minion ids to instances. Where the two are the
// same, which is the default, it remembers nothing.
//
// EC2's answer about running instances takes precedence: a name may be used again, and
// a minion's own statement is not believed. Next are the rows' bound names, for
// instances that EC2 has forgotten, and then the name itself, for machines that an
// operator added and that EC2 never knew.
type nameMap struct {
	ask        Names
	byName     map[string]string
	byInstance map[string]string
	ended      map[string][]string // digests of terminated instances' keys, by name
}

// maxEnded bounds what is remembered of one name that comes again and again.
const maxEnded = 8

// instanceForm: a minion that calls itself by an instance's id, where ids are
// something else, is not taken for that instance.
var instanceForm = regexp.MustCompile(fleet.InstanceIDPattern)

func newNames(ask Names) nameMap {
	return nameMap{ask: ask, byName: map[string]string{}, byInstance: map[string]string{}, ended: map[string][]string{}}
}

// learn records a row. A living instance goes before a terminated one.
func (n *nameMap) learn(row fleet.Minion) {
	if n.ask == nil || row.MinionID == "" {
		return
	}
	if row.Status != fleet.Terminate {
		n.byName[row.MinionID], n.byInstance[row.InstanceID] = row.InstanceID, row.MinionID
		return
	}
	delete(n.byInstance, row.InstanceID)
	if n.byName[row.MinionID] == "" {
		n.byName[row.MinionID] = row.InstanceID
	}
	// A master that has not replaced its former key yet has that one accepted.
	for _, digest := range []string{row.ReplacedSHA256, row.KeySHA256} {
		keys := n.ended[row.MinionID]
		if digest == "" || slices.Contains(keys, digest) {
			continue
		}
		if len(keys) == maxEnded {
			keys = keys[1:]
		}
		n.ended[row.MinionID] = append(keys, digest)
	}
}

// instances returns the instance of each id; ids that bear none are absent.
func (n *nameMap) instances(ctx context.Context, ids []string) (map[string]string, error) {
	out := make(map[string]string, len(ids))
	if n.ask == nil {
		for _, id := range ids {
			out[id] = id
		}
		return out, nil
	}
	living, err := n.ask.Instances(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		switch {
		case living[id] != "":
			out[id] = living[id]
		case n.byName[id] != "":
			out[id] = n.byName[id]
		case !instanceForm.MatchString(id):
			out[id] = id
		}
	}
	return out, nil
}

// of returns the id that an instance is known by.
func (n *nameMap) of(instance string) string {
	if name := n.byInstance[instance]; name != "" {
		return name
	}
	return instance
}

// name is what a row must say of its minion's id: nothing, where it is the
// instance's.
func (n *nameMap) name(id string) string {
	if n.ask == nil {
		return ""
	}
	return id
}

// former reports whether a key was bound to a terminated instance of that name.
func (n *nameMap) former(id, digest string) bool {
	return digest != "" && slices.Contains(n.ended[id], digest)
}
