package service

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// What operators do to masters of the simulator: they delete keys by hand, and
// configure a job cache that makes jids of its own.

// deletedKey is a key that was deleted by hand on one master (salt-key -d).
type deletedKey struct {
	key      []byte
	awaited  bool // phoenix keys restore will be called
	restored bool // it was
}

// recorder is the record of accepted keys that the bridges of one master share.
// It notes what each of them records, whatever the record remembers.
type recorder struct {
	AcceptedKeys
	noted acceptedInMemory
}

func (r recorder) Add(id, digest string) {
	r.AcceptedKeys.Add(id, digest)
	r.noted.Add(id, digest)
}

func (r recorder) Remove(id string) {
	r.AcceptedKeys.Remove(id)
	r.noted.Remove(id)
}

// deleteByHand deletes the accepted key of a minion whose acceptance a bridge
// has recorded. Some are restored later.
func (m *machine) deleteByHand(of *minion) {
	w, key := m.world, m.keys[salt.Accepted][of.id]
	digest, _ := fleet.KeyDigest(key)
	if key == nil || m.gone || of.terminated || m.deleted[of.id] != nil || !m.noted.Has(of.id, digest) {
		return
	}
	w.log("%s: the key of %s is deleted by hand", m.id, of.id)
	w.saw("key deleted by hand")
	delete(m.keys[salt.Accepted], of.id)
	delete(of.links, m)
	d := &deletedKey{key: key, awaited: w.chance(0.6)}
	m.deleted[of.id] = d
	m.event(func(b *bridge) { b.inbox.Enqueue(of.id, false) })
	if d.awaited {
		w.after(w.about(5*time.Minute), func() { m.restoreByHand(of) })
	}
}

// restoreByHand is phoenix keys restore, again until the key is there: a bridge
// that is killed forgets that it was asked.
func (m *machine) restoreByHand(of *minion) {
	d := m.deleted[of.id]
	switch {
	case d == nil || m.gone || of.terminated:
		return
	case m.keys[salt.Accepted][of.id] != nil:
		m.world.saw("key restored")
		delete(m.deleted, of.id)
		return
	}
	if b := m.bridge; b != nil && !b.frozen {
		m.world.log("%s: keys restore %s", m.id, of.id)
		d.restored = true
		b.inbox.Restore([]string{of.id})
		b.poke()
	}
	m.world.after(time.Minute, func() { m.restoreByHand(of) })
}

// keptOut reports whether a key of a minion was deleted by hand, for good, on a
// master that lives: whether that minion gets its highstate is for the operator.
func (w *world) keptOut(m *minion) bool {
	for _, machine := range w.machines {
		if !machine.gone && machine.deleted[m.id] != nil && !machine.deleted[m.id].awaited {
			return true
		}
	}
	return false
}

// acceptsDeleted holds against a master that it accepts a key that was deleted
// there by hand.
func (w *world) acceptsDeleted(b *bridge, id string, key []byte) {
	if d := b.machine.deleted[id]; d != nil && !d.restored && bytes.Equal(d.key, key) && !w.minion(id).terminated {
		w.fault("by hand: %s accepts the key of %s, which was deleted there by hand", b.incarnation, id)
	}
}

// judgeDeleted holds the end against what was promised of keys deleted by hand.
func (w *world) judgeDeleted(m *minion) {
	for _, machine := range w.machines {
		d := machine.deleted[m.id]
		if d == nil || machine.gone || m.terminated || w.store.minions[m.id].KeySHA256 == "" {
			continue
		}
		b := machine.bridge
		switch {
		case d.restored && machine.keys[salt.Accepted][m.id] == nil:
			w.fault("by hand: %s never restored the key of %s", machine.id, m.id)
		case !d.restored && b != nil && !b.engine.problems.has(KeyRemoved, m.id):
			w.fault("by hand: %s says nothing of the deleted key of %s", machine.id, m.id)
		}
	}
}

// ownJID is a highstate that a master published under a jid of its own.
type ownJID struct {
	by       string // incarnation
	told     bool   // the bridge got that answer
	recorded bool   // the row names it
}

// jid is what the master's job cache makes of a jid that it is given.
func (m *machine) jid(given string) string {
	if !m.ownJIDs {
		return given
	}
	m.world.jidsMade++
	return fmt.Sprintf("%020d", m.world.jidsMade)
}

// otherJID is how a master answers that it published a job under another jid.
func (b *bridge) otherJID(given, as string, hit []string, err error) error {
	if err != nil || as == given || len(hit) == 0 {
		return err
	}
	return &salt.OtherJIDError{JID: as}
}

// lost: a job under a jid of the master's own failed, did not reach the minion, or
// ended without a record of it. It is not sent again: that is for the operator.
func (w *world) lost(m *minion) bool {
	row := w.store.minions[m.id]
	if len(m.own) == 0 || w.faulty || w.now-max(w.changed[m.id], w.healed, m.ranAt) < 2*time.Hour {
		return false
	}
	_, ended := m.ended[row.ClaimJID]
	return row.ClaimState != fleet.Claimed || m.runs[row.ClaimJID] == nil && !m.queued[row.ClaimJID] && !ended
}

// renamed notes how a publish under another jid ended.
func (m *minion) renamed(as string, err error) {
	if _, told := errors.AsType[*salt.OtherJIDError](err); told && m.own[as] != nil {
		m.own[as].told = true
	}
}

// publishesOwn notes a publish under a jid of the master's own.
//
// docs/guarantees.md excepts a bridge that was killed, or cut off from the store,
// between the publish and the write of that jid, and one that the answer did not
// reach: it, or its successor, sends one more.
func (w *world) publishesOwn(b *bridge, m *minion, jid, as string) {
	for other, o := range m.own {
		switch {
		case o.recorded:
		case o.told && o.by == b.incarnation:
			w.fault("G2: %s publishes to %s, and knows that the master published before as %s",
				b.incarnation, m.id, other)
		default:
			w.saw("excepted: job cache with jids of its own")
			m.excused = true
		}
	}
	if as == jid {
		return
	}
	w.saw("published under a jid of the master's own")
	w.births[published{m.id, as}] = w.births[published{m.id, jid}]
	if m.own == nil {
		m.own = map[string]*ownJID{}
	}
	m.own[as] = &ownJID{by: b.incarnation}
}
