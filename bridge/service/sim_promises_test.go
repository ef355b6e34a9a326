package service

import (
	"bytes"
	"errors"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// What the world notes of what happens, and what it holds against it.

// wrote notes a write of a minion's row.
func (w *world) wrote(b *bridge, c fleet.Change, before fleet.Minion, r fleet.Result) {
	id := c.Instance()
	if r.Row.ClaimVersion < before.ClaimVersion ||
		r.Row.ClaimVersion == before.ClaimVersion && (r.Row.ClaimJID != before.ClaimJID ||
			r.Row.ClaimState != before.ClaimState || r.Row.ClaimOwner != before.ClaimOwner) {
		w.fault("%s: version %d by %s becomes version %d by %s", id, before.ClaimVersion, before.ClaimIncarnation,
			r.Row.ClaimVersion, r.Row.ClaimIncarnation)
	}
	changed := r.Err == nil && r.Row != before
	if changed {
		w.changed[id] = w.now
	}
	if r.Row.Status != before.Status {
		w.changedBy[id] = w.now
	}
	if w.traced {
		w.log("%s: %T of %s: err %v; version %d %s by %s of %s, attempt %d", b.incarnation, c, id, r.Err,
			r.Row.ClaimVersion, r.Row.ClaimState, r.Row.ClaimIncarnation, r.Row.ClaimJID, r.Row.Attempt)
	}
	switch c := c.(type) {
	case fleet.Claim:
		if changed && before.ClaimState != fleet.Claimed {
			w.births[published{id, c.JID}] = w.minion(id).births
			w.begins(b, before)
		}
		switch {
		case errors.Is(r.Err, fleet.ErrConflict):
			w.saw("lost race")
		case changed && before.ClaimState == fleet.Claimed && before.ClaimOwner != c.Owner:
			w.saw("takeover")
		case changed && before.ClaimState == fleet.Claimed:
			w.saw("taken up again after a restart of the bridge")
		case changed && before.ClaimState == fleet.Failed:
			w.saw("next attempt")
		}
	case fleet.Rename:
		if own := w.minion(id).own[c.As]; changed && own != nil {
			own.recorded = true
			w.saw("jid of the master's own recorded")
		}
	case fleet.Finish:
		switch {
		case changed && c.Outcome == fleet.Busy:
			w.busy[published{id, c.JID}] = true
			w.saw("busy")
		case changed && c.Outcome == fleet.Vanished:
			w.saw("vanished job")
		case changed && before.ClaimOwner != b.machine.id:
			w.saw("ended by another than its owner")
		}
	}
}

// decided notes what a rule made of what it was asked.
func (w *world) decided(b *bridge, owner decide.Liveness, c decide.HighstateView, step decide.Step) {
	r := c.Row
	mine := r.ClaimState == fleet.Claimed && r.ClaimOwner == b.machine.id && r.ClaimIncarnation == b.incarnation
	switch {
	case step.Act == decide.Publish && b.machine.cut && w.now-b.machine.cutAt > b.machine.clock.real(simLease):
		w.fault("%s publishes to %s, though cut from the store for longer than a lease", b.incarnation, r.InstanceID)
	case step.Act == decide.Halt:
		w.saw("halted by the breaker")
	case step.Act == decide.Publish && b.engine.breakerOpen() != "":
		w.fault("breaker: %s publishes to %s, and knows that the breaker is open", b.incarnation, r.InstanceID)
	case step.Act == decide.Take && r.ClaimState == fleet.Claimed && owner == decide.Beating:
		w.saw("failover: here now")
	case step.Act == decide.Ask && mine && c.Taken == decide.TakenNot:
		w.saw("lost answer recognised as own")
	case step.Act == decide.Ask && r.ClaimState == fleet.Unclaimed:
		w.saw("asked whether it is free again")
	case step.Act == decide.Publish && c.Unknowns > 0:
		w.saw("jid sent again")
	case step.Act == decide.Wait && c.NoCache && mine && c.Unknowns > 0:
		w.saw("end not known: no cache")
	}
	if w.traced { // asked often
		w.log("%s: %s %s: %s (owner %d)", b.incarnation, step.Act, r.InstanceID, step.Reason, owner)
	}
}

// publishes notes, at the moment when the master sends it, a highstate.
// G1: one published jid per minion and attempt, over all masters.
// as is the jid that the minion sees.
func (w *world) publishes(b *bridge, id, jid, as string) {
	c := b.engine.highstates[id]
	w.history.Published(id, c.Row.ClaimVersion, b.machine.id, jid, c.Row.Attempt)
	row, m := w.store.minions[id], w.minion(id)
	late := row.ClaimVersion != c.Row.ClaimVersion
	if late {
		w.saw("late publish by an old owner")
		w.log("%s: publishes %s to %s late: the claim is %s by %s", b.incarnation, jid, id, row.ClaimJID,
			row.ClaimIncarnation)
	}
	w.publishesOwn(b, m, jid, as)
	jid = as
	p := published{id, jid}
	w.late[p] = late
	w.lateOnce[p] = w.lateOnce[p] || late
	if w.births[p] != m.births {
		w.saw("publish to another of the same name")
		return
	}
	if w.published[p] {
		return
	}
	w.published[p] = true
	if w.jids[id] == nil {
		w.jids[id] = map[int][]string{}
	}
	for _, other := range w.jids[id][c.Row.Attempt] {
		if !w.busy[published{id, other}] && !m.excused && m.own[other] == nil && m.own[jid] == nil {
			w.fault("G1: %s: attempt %d was published as %s and as %s", id, c.Row.Attempt, other, jid)
		}
	}
	w.jids[id][c.Row.Attempt] = append(w.jids[id][c.Row.Attempt], jid)
	if m.succeeded != "" && m.succeeded != jid && !late && !m.excused {
		w.fault("G2: %s: %s was published after the success of %s", id, jid, m.succeeded)
	}
}

// lately reports whether the publish of jid that is being sent came from a master
// that had lost the claim by then.
func (w *world) lately(id, jid string) bool { return w.late[published{id, jid}] }

// ran notes that a highstate begins on a minion.
// G2: a highstate that returned success is never run again.
//
// One thing is excepted, and docs/guarantees.md must say so:
//
//   - No lease can keep a master that was stopped between its last check and the
//     publish from sending what it checked, however late. What protects is that
//     the minion drops a jid that it has seen. So it takes such a late publish
//     and a minion that no longer knows that it has seen the jid, since its
//     process was started anew or a hundred jobs came after it, or never saw it,
//     since each publish of the successor was lost on the way. What runs then is
//     nobody's.
func (w *world) ran(m *minion, jid string, late, forgotten, beside bool) {
	w.log("%s: runs %s (late %v, forgotten %v, beside itself %v)", m.id, jid, late, forgotten, beside)
	row := w.store.minions[m.id]
	if late && (row.ClaimState != fleet.Claimed || row.ClaimJID != jid) ||
		forgotten && w.lateOnce[published{m.id, jid}] {
		m.excused = true
		w.saw("excepted: late publish")
		return
	}
	if beside && !m.excused {
		w.fault("G2: %s: %s runs twice at once", m.id, jid)
	}
	if m.succeeded == "" {
		return
	}
	switch {
	case m.excused:
	default:
		w.fault("G2: %s: %s runs after the success of %s", m.id, jid, m.succeeded)
	}
}

// held returns which masters that are alive have a key of a minion, in any of these states.
func (w *world) held(m *minion, states ...salt.State) (at []string) {
	for _, machine := range w.machines {
		for _, state := range states {
			if !machine.gone && machine.keys[state][m.id] != nil {
				at = append(at, machine.id)
			}
		}
	}
	return at
}

// accepts notes that a key becomes accepted on a master.
// G3, G4: only the bound key, of an id whose row does not say TERMINATE. What was
// written since the bridge looked, its next read repairs.
func (w *world) accepts(b *bridge, id string, key []byte) {
	w.acceptsDeleted(b, id, key)
	row := w.store.minions[id]
	digest, _ := fleet.KeyDigest(key)
	recent := w.now-w.changed[id] < 5*time.Minute
	switch {
	case row.Status == fleet.Terminate && w.now-w.changedBy[id] > 10*time.Minute:
		w.fault("G4: %s accepts the key of %s, which was terminated", b.incarnation, id)
	case row.Status == fleet.Launch && row.KeySHA256 != digest && !recent:
		w.fault("G3: %s accepts a key of %s that is not the bound one", b.incarnation, id)
	}
}

// deletes notes that an accepted key goes.
// G9: only of a minion that was terminated.
func (w *world) deletes(b *bridge, id string, key []byte) {
	row, m := w.store.minions[id], w.minion(id)
	w.saw("key of a terminated minion deleted")
	if row.Status == fleet.Launch && bytes.Equal(key, m.key) {
		w.fault("G9: %s deletes the key of %s, which lives", b.incarnation, id)
	}
}

// settled reports whether a minion has come to an end that stays.
func (w *world) settled(m *minion) bool {
	row := w.store.minions[m.id]
	if m.terminated {
		return m.dead && !m.awaited && len(w.held(m, salt.Accepted)) == 0
	}
	return row.HighstateRan || row.ClaimState == fleet.Failed && row.Attempt >= attempts ||
		w.lost(m) || w.unknowable(m) || w.keptOut(m)
}

// unknowable: the minion keeps no jobs and the return was lost. Nobody may run
// it again, and nobody can say how it ended: that is for an operator.
func (w *world) unknowable(m *minion) bool {
	row := w.store.minions[m.id]
	return !m.cache && row.ClaimState == fleet.Claimed && m.runs[row.ClaimJID] == nil && !m.queued[row.ClaimJID] &&
		!w.faulty && w.now-max(w.changed[m.id], w.healed) > 8*time.Minute
}

// verdict holds the end against the promises.
func (w *world) verdict() {
	for _, m := range w.minions {
		row := w.store.minions[m.id]
		w.judgeDeleted(m)
		switch {
		case m.terminated:
			if at := w.held(m, salt.Accepted); len(at) > 0 || !m.dead {
				w.fault("G4: the key of %s, which was terminated, stays accepted on %v", m.id, at)
			}
		case !w.settled(m):
			w.fault("liveness: %s is left at %s by %s, attempt %d, jid %s, succeeded %q", m.id, row.ClaimState,
				row.ClaimIncarnation, row.Attempt, row.ClaimJID, m.succeeded)
		case row.HighstateRan && row.ClaimState != fleet.Done:
			w.fault("%s: ran, and is %s", m.id, row.ClaimState)
		case row.HighstateRan && m.succeeded == "":
			w.fault("%s: highstate_ran, but none succeeded", m.id)
		case m.succeeded != "" && !row.HighstateRan && !w.unknowable(m) && !m.excused && !w.keptOut(m):
			w.fault("%s: %s succeeded, but the row says %s, attempt %d", m.id, m.succeeded, row.ClaimState, row.Attempt)
		}
	}
	if err := w.history.Check(); err != nil {
		w.fault("history: %v", err)
	}
	if steps, most := w.seen["step"], len(w.machines)*int(w.now/time.Second)*4; steps > most {
		w.fault("%d steps in %v: it spins", steps, w.now)
	}
}

func (w *world) minion(id string) *minion {
	for _, m := range w.minions {
		if m.id == id {
			return m
		}
	}
	panic("no minion " + id)
}
