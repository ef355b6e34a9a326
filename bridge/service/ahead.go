package service

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// Keys are accepted ahead of a minion's first auth request where the instance's proof
// has the public key (admit: proven). A minion whose first request finds no accepted
// key sleeps until the next one (acceptance_wait_time, 10 s), on each master to which
// it connects.
const (
	// LaunchPollEvery: how often each master reads which instances launched. The
	// message of AutoScaling reaches one master only.
	LaunchPollEvery = 10 * time.Second
	// aheadFirst, aheadMost: how often the proof of an instance is read, more rarely
	// with its age: after a fifteenth of it.
	aheadFirst = 2 * time.Second
	aheadMost  = time.Minute
	aheadAge   = 15
	// aheadFor: an instance that has written no proof by then has no agent.
	aheadFor = time.Hour
)

// expectedMinion is a minion whose instance launched and whose key is not known yet.
type expectedMinion struct {
	since time.Time
	due   time.Time
}

// launches is what the engine knows of instances that launched lately.
type launches struct {
	expected map[string]*expectedMinion // by minion id
	readAt   time.Time                  // begin of the last reading, by our clock
	versions map[string]string          // Modified of the rows that were read last
	pollAt   time.Time
}

// acceptsAhead reports whether keys may be accepted ahead. With id_from, the id of an
// instance is not known before its minion asks.
func (e *Engine) acceptsAhead() bool {
	return e.cfg.Admit == decide.Proven && e.cfg.Proofs != nil && e.cfg.Names == nil
}

// expect records a row as it was read or written: of an instance that launched and
// whose minion has no key yet, or not any more.
func (e *Engine) expect(row fleet.Minion) {
	id := row.SaltID()
	if !e.acceptsAhead() || row.Status != fleet.Launch || row.KeySHA256 != "" || row.Adopted() || !e.cfg.ValidID(id) {
		delete(e.launches.expected, id)
		return
	}
	launched, err := fleet.ParseTime(row.Modified)
	if e.launches.expected[id] != nil || len(e.launches.expected) >= maxQueued ||
		err == nil && e.wall().Sub(launched) > aheadFor {
		return
	}
	e.launches.expected[id] = &expectedMinion{since: e.now(), due: e.now()}
}

// enqueueExpected enqueues the expected minions whose proof is to be read now.
func (e *Engine) enqueueExpected() {
	now := e.now()
	for id, x := range e.launches.expected {
		age := now.Sub(x.since)
		switch {
		case age > aheadFor:
			delete(e.launches.expected, id)
		case !x.due.After(now):
			x.due = now.Add(min(max(age/aheadAge, aheadFirst), aheadMost))
			e.queue.postpone(id, false, now)
		}
	}
}

// pollLaunches reads the LAUNCH rows that changed lately: which minions to expect, and
// the keys that other masters bound, which are written as accepted here.
func (e *Engine) pollLaunches(ctx context.Context) error {
	l, now, wall := &e.launches, e.now(), e.wall()
	if l.readAt.IsZero() {
		l.readAt = wall // preloadKeys has read what was before
	}
	versions, bound := map[string]string{}, []string(nil)
	err := e.eachRow(ctx, fleet.Launch, fleet.FormatTime(l.readAt.Add(-overlap)), func(rows []fleet.Minion) error {
		for _, row := range rows {
			id := row.SaltID()
			if versions[id] = row.Modified; l.versions[id] == row.Modified {
				continue
			}
			e.expect(row)
			if row.KeySHA256 != "" && row.PublicKey != "" && e.cfg.ValidID(id) && !e.accepted.Has(id, row.KeySHA256) {
				bound = append(bound, row.InstanceID)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.readAt, l.versions, l.pollAt = wall, versions, now.Add(e.cfg.LaunchPollEvery)
	if !e.preloaded {
		return nil // all known keys are still to be written
	}
	for chunk := range slices.Chunk(bound, batch) {
		// The index may lag behind a termination or another key.
		rows, _, err := e.readRows(ctx, chunk)
		if err != nil {
			return err
		}
		e.writeBound(slices.Collect(maps.Values(rows)))
	}
	return nil
}

// acceptAhead writes keys as accepted that were bound to rows because of a proof, and
// reads them again.
func (e *Engine) acceptAhead(views []*keyView) {
	var rows []fleet.Minion
	for _, v := range views {
		if v.decision.Act == decide.WriteKey && !v.failed {
			rows = append(rows, v.Row)
		}
	}
	if len(rows) == 0 {
		return
	}
	e.writeBound(rows)
	for _, v := range views {
		if v.decision.Act != decide.WriteKey || v.failed {
			continue
		}
		if text, err := e.keys.Read(v.ID, salt.Accepted); err == nil {
			v.acceptedText, v.Accepted.Present = text, true
			v.Accepted.Digest, _ = fleet.KeyDigest(text)
		}
		if v.Accepted.Digest == v.Row.KeySHA256 {
			e.audit.Accepted(v.ID, v.decision, v.Accepted.Digest)
			e.observeAccepted(v)
		} else {
			e.queue.retry(v.ID, false, e.now())
		}
	}
}

// writeBound writes bound keys as accepted. Where that fails for all, as on a full
// disk, all known keys are written again later.
//
// What this master has of an id is read just before: a key of it may have come, or
// have been rejected.
func (e *Engine) writeBound(rows []fleet.Minion) {
	listing := keyListing{}
	for _, row := range rows {
		for _, state := range []salt.State{salt.Accepted, salt.Rejected, salt.Denied, salt.Pending} {
			if _, err := e.keys.Read(row.SaltID(), state); !errors.Is(err, salt.ErrNoKey) {
				listing[row.SaltID()] = append(listing[row.SaltID()], state)
			}
		}
	}
	if err := e.writeAccepted(rows, listing); err != nil {
		e.preloaded = false
		e.endStage(stagePreload, err)
	}
}
