package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
	"phoenix/bridge/service"
)

// OtherKey is a key of an id that has another one: of a machine that was rebuilt, of a
// second machine with one name, or of an impostor.
type OtherKey struct {
	ID    string `json:"id"`
	State string `json:"state"` // denied, pending or accepted
	Key   string `json:"key_sha256"`
	// Known is the key that is bound, or else the accepted one. Where Key is the bound one
	// (it was rebound on another master), it is the one that is accepted here.
	Known string    `json:"known_sha256"`
	Since time.Time `json:"since"` // when it was written, by the file server's clock
}

// String says it in one line, with both digests.
func (k OtherKey) String() string {
	return fmt.Sprintf("another key is %s since %s: %.12s…, and the known one is %.12s…", k.State, Clock(k.Since),
		k.Key, k.Known)
}

// maxOtherKeys bounds how many are read: anyone can make a master deny keys.
const maxOtherKeys = 100

// OtherKeys returns the first keys of this master that are not the known ones of their ids.
// Salt keeps one denied key for each id: the last.
func (a Admin) OtherKeys(ctx context.Context) ([]OtherKey, error) {
	_, keys, _, err := open.Master(a.Config)
	if err != nil {
		return nil, err
	}
	list, err := keys.List()
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	others, _, err := a.otherKeys(ctx, keys, list, otherAccepted(a.bridgeReport(ctx)))
	return others, err
}

// otherAccepted returns ids of which the bridge reports that the accepted key is not the
// bound one: it has compared them all.
func otherAccepted(report service.Report) (ids []string) {
	for _, p := range report.Engine.Problems {
		if p.Kind == service.OtherKey {
			ids = append(ids, p.Minion)
		}
	}
	return ids
}

// otherKeys returns the keys of a listing that are not the known ones. Of accepted keys
// it reads those of suspects alone: a master has thousands. Of more than maxOtherKeys it
// reads the first, and returns how many it did not read.
func (a Admin) otherKeys(ctx context.Context, keys *salt.Keys, list salt.Listing,
	suspects []string) (found []OtherKey, unread int, err error) {
	found = []OtherKey{}
	accepted := map[string]bool{}
	for _, id := range list.Accepted {
		accepted[id] = true
	}
	valid := a.Config.ValidID()
	type candidate struct {
		id    string
		name  string
		state salt.State
	}
	var candidates []candidate
	for _, id := range list.Denied {
		candidates = append(candidates, candidate{id, "denied", salt.Denied})
	}
	for _, id := range list.Pending {
		if accepted[id] {
			candidates = append(candidates, candidate{id, "pending", salt.Pending})
		}
	}
	for _, id := range suspects {
		candidates = append(candidates, candidate{id, "accepted", salt.Accepted})
	}
	candidates = slices.DeleteFunc(candidates, func(c candidate) bool { return !valid(c.id) })
	unread = max(len(candidates)-maxOtherKeys, 0)
	candidates = candidates[:len(candidates)-unread]
	ids := make([]string, len(candidates))
	for i, c := range candidates {
		ids[i] = c.id
	}
	if len(ids) == 0 {
		return found, 0, nil
	}
	_, rows, err := a.rowsOf(ctx, ids)
	if _, err := fleet.WithoutBadRows(err); err != nil {
		return nil, 0, err
	}
	for _, c := range candidates {
		k := OtherKey{ID: c.id, State: c.name, Known: rows[c.id].KeySHA256}
		if text, err := keys.Read(c.id, salt.Accepted); k.Known == "" && err == nil {
			k.Known, _ = fleet.KeyDigest(text)
		}
		text, err := keys.Read(c.id, c.state)
		if err != nil {
			continue // gone, or being written
		}
		if digest, _ := fleet.KeyDigest(text); digest == k.Known && digest != "" { // rebound on another master?
			if text, err := keys.Read(c.id, salt.Accepted); err == nil {
				k.Known, _ = fleet.KeyDigest(text)
			}
		}
		if k.Key, _ = fleet.KeyDigest(text); k.Key == "" || k.Key == k.Known || k.Known == "" {
			continue
		}
		if c.state == salt.Accepted && slices.ContainsFunc(found,
			func(o OtherKey) bool { return o.ID == k.ID && o.Known == k.Key }) {
			continue // the bound key is denied, and this one said of it
		}
		if k.Since, err = keys.Since(c.id, c.state); err == nil {
			found = append(found, k)
		}
	}
	return found, unread, nil
}
