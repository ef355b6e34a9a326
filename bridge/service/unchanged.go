package service

import (
	"context"
	"encoding/hex"
	"hash/maphash"
	"slices"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// unchangedIDs are ids for which nothing is left to be done: one key, accepted, and
// either the right one of a minion whose highstate ran or is not ours to run, or
// one that the fleet does not list. As long as neither key nor row changes, a
// comparison need not read the row: of a fleet of 100,000 that is all but a few,
// and each read is paid for.
//
// Each comparison checks whether the key's file is still the one that was read. A row
// that changes has a new Modified: LAUNCH rows are listed from the last comparison on,
// TERMINATE rows by pollTerminated. From time to time all are read; see fullEvery.
type unchangedIDs map[string]unchangedID

type unchangedID struct {
	key      [8]byte // the first bytes of the digest, which no other key has by chance
	file     uint64  // hash of the salt.FileVersion of the key; 0: not known
	modified int64   // of the row, in milliseconds
	phase    decide.Phase
}

// markUnchanged records whether anything is left to be done for an id.
func (e *Engine) markUnchanged(id string, v *keyView) {
	delete(e.unchanged, id)
	if e.cfg.Names != nil || e.highstates[id] != nil || !v.Accepted.Present || v.Accepted.Digest == "" ||
		v.Pending.Present || v.Rejected.Present || v.Denied.Present || v.decision.Act != decide.LeaveKey {
		return
	}
	if v.Known && (v.Row.Status != fleet.Launch || v.Row.WantsHighstate()) {
		return
	}
	e.unchanged[id] = unchangedID{shortKey(v.Accepted.Digest), v.acceptedFile, stamp(v.Row),
		decide.PhaseOf(v.Row, v.Known, true)}
}

// stamp is a row's Modified in milliseconds, or 0.
func stamp(row fleet.Minion) int64 {
	at, err := fleet.ParseTime(row.Modified)
	if err != nil {
		return 0
	}
	return at.UnixMilli()
}

func shortKey(digest string) (key [8]byte) {
	if len(digest) >= 2*len(key) {
		_, _ = hex.Decode(key[:], []byte(digest[:2*len(key)])) // fleet.KeyDigest is hexadecimal
	}
	return key
}

// readChanged reads the LAUNCH rows that have changed since the last comparison,
// forgets that their ids are unchanged, and writes their keys where this master has
// none yet.
func (e *Engine) readChanged(ctx context.Context, listing keyListing) error {
	if e.resyncs.readAt.IsZero() {
		return nil // the first comparison: all are checked, and the preload reads all
	}
	// By our own clock: were it ahead, changes would be found by their events, and
	// by the comparison that reads all.
	since := fleet.FormatTime(e.resyncs.readAt.Add(-overlap))
	return e.eachRow(ctx, fleet.Launch, since, func(rows []fleet.Minion) error {
		rows = slices.DeleteFunc(rows, func(row fleet.Minion) bool {
			s, found := e.unchanged[row.SaltID()]
			return found && s.modified == stamp(row)
		})
		for _, row := range rows {
			delete(e.unchanged, row.SaltID())
		}
		if !e.preloaded {
			return nil // all of them are still to be written
		}
		if err := e.writeAccepted(rows, listing); err != nil { // such as a full disk: no reason not to compare
			e.preloaded = false
			e.endStage(stagePreload, err)
		}
		return nil
	})
}

// changedIDs returns the ids that a comparison must check, of those that the key
// store holds: with full, all.
func (e *Engine) changedIDs(ids []string, listing keyListing, full bool) []string {
	if full {
		clear(e.unchanged)
		return ids
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		s, found := e.unchanged[id]
		return found && len(listing[id]) == 1 && listing[id][0] == salt.Accepted && e.keyUnchanged(id, s)
	})
}

// keyUnchanged reports whether an accepted key is still the one that was read. It
// reads the key again only if its file has changed.
func (e *Engine) keyUnchanged(id string, known unchangedID) bool {
	file := e.fileOf(id)
	if file != 0 && file == known.file {
		return true
	}
	text, err := e.keys.Read(id, salt.Accepted)
	if err != nil {
		return false
	}
	digest, err := fleet.KeyDigest(text)
	if err != nil || shortKey(digest) != known.key {
		return false
	}
	known.file = file
	e.unchanged[id] = known
	return true
}

// fileOf returns a hash of the version of an accepted key's file; 0 if it is not
// known. It must be called before the key is read.
func (e *Engine) fileOf(id string) uint64 {
	version, err := e.keys.Version(id, salt.Accepted)
	if err != nil || version == (salt.FileVersion{}) {
		return 0
	}
	return max(maphash.Comparable(fileSeed, version), 1)
}

var fileSeed = maphash.MakeSeed()
