package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
	"phoenix/bridge/service"
)

// Key is one key of this master.
type Key struct {
	ID     string       `json:"id"`
	State  string       `json:"state"`
	Phase  decide.Phase `json:"standing"`
	Digest string       `json:"key_sha256"`
	Bound  string       `json:"bound"` // same, other, or empty: none is bound
}

// BadRow is the standing of an id whose row cannot be decoded.
const BadRow decide.Phase = "bad row"

// maxBadEntries is how many entries of the key store that are no keys are named:
// anyone can leave odd ones among the pending.
const maxBadEntries = 100

// Keys returns the keys that this master has.
func (a Admin) Keys(ctx context.Context) ([]Key, error) {
	_, keys, _, err := open.Master(a.Config)
	if err != nil {
		return nil, err
	}
	list, err := keys.List()
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	instances, rows, err := a.rowsOf(ctx, slices.Concat(list.Accepted, list.Pending, list.Rejected, list.Denied))
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	out, valid := []Key{}, a.Config.ValidID()
	for _, s := range []struct {
		name  string
		state salt.State
		ids   []string
	}{{"accepted", salt.Accepted, list.Accepted}, {"pending", salt.Pending, list.Pending},
		{"rejected", salt.Rejected, list.Rejected}, {"denied", salt.Denied, list.Denied}} {
		for _, id := range s.ids {
			row, known := rows[id]
			k := Key{ID: id, State: s.name, Phase: decide.PhaseOf(row, known, s.state == salt.Accepted)}
			if bad[instances[id]] != nil {
				k.Phase = BadRow
			}
			if valid(id) {
				k.Digest, k.Bound = digestOf(keys, id, s.state, row)
			}
			out = append(out, k)
		}
	}
	for i, name := range slices.Sorted(maps.Keys(list.Bad)) {
		if i == maxBadEntries {
			a.warn("left out: %d more", len(list.Bad)-i)
			break
		}
		a.warn("left out: %s", OneLine(list.Bad[name]))
	}
	return out, fleet.BadRows(bad)
}

func digestOf(keys *salt.Keys, id string, state salt.State, row fleet.Minion) (digest, bound string) {
	if text, err := keys.Read(id, state); err == nil {
		digest, _ = fleet.KeyDigest(text) // no key has none
	}
	switch row.KeySHA256 {
	case "":
	case digest:
		bound = "same"
	default:
		bound = "other"
	}
	return digest, bound
}

// AcceptKeys is the request of Accept.
type AcceptKeys struct {
	IDs    []string `json:"ids"`
	Rebind bool     `json:"rebind"` // forget the key that was bound before
	// KeySHA256 is the digest of the key that the caller saw; no other is accepted. It
	// must be there to rebind: anyone who reaches the master can send a key under an id.
	KeySHA256 string `json:"key_sha256"`
}

func (r AcceptKeys) validate() error {
	switch {
	case r.Rebind && r.KeySHA256 == "":
		return config.Invalid(errors.New("rebind needs key_sha256, the digest of the new key: phoenix keys list --json"))
	case r.KeySHA256 != "" && !wholeDigest(r.KeySHA256):
		return notDigest(r.KeySHA256)
	case r.KeySHA256 != "" && len(r.IDs) != 1:
		return config.Invalid(errors.New("key_sha256 is of one key: it takes one minion id"))
	}
	return nil
}

func notDigest(text string) error {
	return config.Invalid(fmt.Errorf("key_sha256 %q is not 64 hexadecimal digits in lower case", text))
}

func wholeDigest(text string) bool {
	return len(text) == 2*sha256.Size && strings.Trim(text, "0123456789abcdef") == ""
}

// Accept accepts pending keys by hand, and returns the rows that they are bound to.
// The administrator's decision overrules the rules: only ids are still checked.
func (a Admin) Accept(ctx context.Context, r AcceptKeys) ([]fleet.Minion, error) {
	if err := a.checkIDs(r.IDs); err != nil {
		return nil, err
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	_, keys, master, err := open.Master(a.Config)
	if err != nil {
		return nil, err
	}
	instances, err := a.resolveInstances(ctx, r.IDs)
	if err != nil {
		return nil, fmt.Errorf("accept keys: %w", err)
	}
	var faults []error
	var rows []fleet.Minion
	for _, id := range r.IDs {
		row, err := a.acceptOrRebind(ctx, keys, master, id, instances[id], r)
		if err != nil {
			if !r.Rebind && errors.Is(err, salt.ErrNoKey) {
				err = fmt.Errorf("%w%s", err, whereIsKey(keys, id))
			}
			faults = append(faults, fmt.Errorf("accept key %s: %w", id, err))
			continue
		}
		a.Record("key accepted", id)
		rows = append(rows, row)
	}
	a.notify(ctx, r.IDs...)
	return rows, errors.Join(faults...)
}

// whereIsKey says where the key of an id is that is not pending; empty: nowhere here.
func whereIsKey(keys *salt.Keys, id string) string {
	for _, of := range []struct {
		state salt.State
		say   string
	}{
		{salt.Denied, "Salt has denied one, since another key is accepted: if the machine was rebuilt, phoenix keys accept --rebind " + id},
		{salt.Accepted, "its key is accepted already"},
		{salt.Rejected, "its key was rejected: phoenix keys delete " + id +
			" --state rejected, and it is pending at its next auth request"},
	} {
		if _, err := keys.Read(id, of.state); err == nil {
			return " (" + of.say + ")"
		}
	}
	return ""
}

// RemovedByHand returns the ids whose accepted key was deleted on this master by hand, as
// far as the bridge names them.
func (a Admin) RemovedByHand(ctx context.Context) map[string]bool {
	return removedByHand(a.bridgeReport(ctx))
}

func removedByHand(report service.Report) map[string]bool {
	ids := map[string]bool{}
	for _, p := range report.Engine.Problems {
		if p.Kind == service.KeyRemoved {
			ids[p.Minion] = true
		}
	}
	return ids
}

// RestoreKeys is the request of Restore.
type RestoreKeys struct {
	IDs []string `json:"ids"`
}

// Restore has the bridge of this machine write keys as accepted again that were
// deleted by hand: the bridge knows what was accepted here. It returns the ids; an error is
// about the others.
func (a Admin) Restore(ctx context.Context, r RestoreKeys) ([]string, error) {
	if err := a.checkIDs(r.IDs); err != nil {
		return nil, err
	}
	instances, rows, err := a.rowsOf(ctx, r.IDs)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return nil, fmt.Errorf("restore keys: %w", err)
	}
	var faults []error
	var ids []string
	for _, id := range r.IDs {
		var fault error
		switch row, known := rows[id]; {
		case bad[instances[id]] != nil:
			fault = bad[instances[id]]
		case !known:
			fault = fleet.ErrNotFound
		case row.Status == fleet.Terminate:
			fault = fmt.Errorf("%w%s", fleet.ErrTerminated, hint(fleet.ErrTerminated, id))
		case row.PublicKey == "":
			fault = fmt.Errorf("no key is bound to it (phoenix keys accept %s when it is pending)", id)
		}
		if fault != nil {
			faults = append(faults, fmt.Errorf("restore key %s: %w", id, fault))
			continue
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, errors.Join(faults...)
	}
	if err := api.NewClient(a.Config.Socket).Restore(ctx, ids); err != nil {
		return nil, errors.Join(append(faults, fmt.Errorf("restore keys: %w", err))...)
	}
	a.Record("key restored", ids...)
	return ids, errors.Join(faults...)
}
