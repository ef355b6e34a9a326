package service

import (
	"iter"
	"maps"

	"phoenix/bridge/fleet"
)

// AcceptedKeys remembers which key this master has accepted for which id, over
// restarts of the bridge: a key that was accepted here and is gone, though
// nobody retired its minion, was deleted by hand (salt-key -d). It is not
// written back. Keys are known by the first bytes of their digest.
type AcceptedKeys interface {
	// Has reports whether that key was accepted here and not deleted by Phoenix.
	Has(id, digest string) bool
	// Knows reports whether any key of that id was.
	Knows(id string) bool
	// Add and Remove never fail: what cannot be written down is remembered until
	// the process ends.
	Add(id, digest string)
	Remove(id string)
	// IDs returns the ids of which a key was, in no order.
	IDs() iter.Seq[string]
}

// acceptedInMemory forgets all when the process ends.
type acceptedInMemory map[string][8]byte

func (a acceptedInMemory) Has(id, digest string) bool {
	key, there := a[id]
	return there && digest != "" && key == shortKey(digest)
}

func (a acceptedInMemory) Knows(id string) bool {
	_, there := a[id]
	return there
}

func (a acceptedInMemory) Add(id, digest string) { a[id] = shortKey(digest) }
func (a acceptedInMemory) Remove(id string)      { delete(a, id) }

// IDs implements AcceptedKeys.
func (a acceptedInMemory) IDs() iter.Seq[string] { return maps.Keys(a) }

// rememberAccepted records that the right key of a minion is accepted here, and which
// key it had replaced then.
func (e *Engine) rememberAccepted(id string, row fleet.Minion, digest string) {
	if digest == "" || digest != row.KeySHA256 {
		return
	}
	if !e.accepted.Has(id, digest) {
		e.accepted.Add(id, digest)
	}
	e.formerKeys[id] = shortKey(row.ReplacedSHA256)
}

// forgetAccepted records that a key was deleted here by Phoenix, or is to be written anew.
func (e *Engine) forgetAccepted(id string) {
	e.accepted.Remove(id)
	delete(e.formerKeys, id)
}

// countAccepted has the beats say of how many ids a key is accepted, soon after one was
// accepted or deleted.
func (e *Engine) countAccepted() {
	now := e.now()
	if !e.recount || !e.resyncs.done || now.Before(e.recountAt) {
		return
	}
	e.recountAt = now.Add(countAcceptedEvery)
	list, err := e.keys.List()
	if err != nil {
		return // the next comparison reports it
	}
	e.beats.SetMinions(len(list.Accepted))
	e.recount = false
}

// removedByHand reports whether the key bound to a row was accepted on this
// master, and is gone without our doing.
func (e *Engine) removedByHand(id string, row fleet.Minion) bool {
	return row.Status == fleet.Launch && row.KeySHA256 != "" && e.accepted.Has(id, row.KeySHA256) && !e.rebound(id, row)
}

// rebound reports whether the row was bound to another key, and back to this one, since
// the key was seen accepted here: then its deletion was a part of that.
func (e *Engine) rebound(id string, row fleet.Minion) bool {
	was, seen := e.formerKeys[id]
	return seen && was != shortKey(row.ReplacedSHA256)
}
