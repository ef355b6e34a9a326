package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// maxRounds bounds how often one step comes back to a minion: claim, publish and
// then wait are three acts; more than a few can only be a fault of the rules.
const maxRounds = 6

// acts are the steps of many minions, gathered so that each kind of effect is
// one call.
type acts map[decide.Act][]string

// drive does what is due for each first highstate, until nothing is.
func (e *Engine) drive(ctx context.Context) error {
	if err := e.reread(ctx); err != nil {
		return err
	}
	for range maxRounds {
		todo := e.next()
		if len(todo) == 0 {
			return nil
		}
		for _, effect := range []struct {
			act decide.Act
			do  func(context.Context, []string) error
		}{
			{decide.Finish, e.finish}, {decide.Read, e.read}, {decide.Take, e.take},
			{decide.Publish, e.publish}, {decide.Ask, e.ask}, {decide.Ping, e.ping},
		} {
			for ids := range slices.Chunk(todo[effect.act], batch) {
				if err := effect.do(ctx, ids); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// next asks for the step of each minion that is due.
func (e *Engine) next() acts {
	now := e.now()
	todo := acts{}
	slots := e.cfg.Concurrency
	for _, c := range e.courses {
		if c.Occupies(e.cfg.InstanceID, now) {
			slots--
		}
	}
	var due []string
	for id, c := range e.courses {
		if c.queued && slots > 0 {
			c.queued, c.due = false, time.Time{}
		}
		if !c.queued && !c.due.After(now) {
			due = append(due, id)
		}
	}
	slices.Sort(due) // the same work gives the same calls, in the same order
	self := decide.Self{ID: e.cfg.InstanceID, Incarnation: e.cfg.Incarnation,
		Beating: e.beats.Reach(now), Slots: slots}
	for _, id := range due {
		c := e.courses[id]
		step := e.rule(e.cfg.Highstate, self, e.beats.Pulse(c.Row), c.Course, now)
		c.why = step.Reason
		switch step.Act {
		case decide.Rest:
			c.due = now.Add(jobsFor) // until something happens; the comparison looks anyway
			if !c.Row.WantsHighstate() {
				e.close(id)
			}
		case decide.Wait:
			c.due = step.At
		case decide.Queue:
			c.queued = true
		case decide.Finish:
			c.Ended = &step.Ended
			todo[step.Act] = append(todo[step.Act], id)
		case decide.Take:
			if c.Row.ClaimState != fleet.Claimed {
				self.Slots--
			}
			todo[step.Act] = append(todo[step.Act], id)
		default:
			todo[step.Act] = append(todo[step.Act], id)
		}
	}
	return todo
}

// close ends a course that wants nothing any more.
func (e *Engine) close(id string) {
	c := e.courses[id]
	delete(e.courses, id)
	e.rows.put(id, lookup{row: c.Row, found: true, until: e.now().Add(knownFor)})
}

// take writes claims: new ones under one new jid, for one publish; a claim that
// is taken over keeps the jid that the minion may have seen.
func (e *Engine) take(ctx context.Context, ids []string) error {
	jid := e.newJID()
	changes := make([]fleet.Change, len(ids))
	for i, id := range ids {
		r := e.courses[id].Row
		c := fleet.Claim{InstanceID: r.InstanceID, From: r.ClaimVersion, Owner: e.cfg.InstanceID,
			Incarnation: e.cfg.Incarnation, JID: jid, Attempt: r.Attempt + 1}
		if r.ClaimState == fleet.Claimed {
			c.JID, c.Attempt = r.ClaimJID, r.Attempt
		}
		e.inbox.hear(c.JID)
		changes[i] = c
	}
	return e.apply(ctx, "claim", ids, changes, func(id string, before, row fleet.Minion) {
		e.courses[id].Took(row, e.now())
		e.audit.Claimed(id, before, row)
	})
}

// finish writes how jobs ended.
func (e *Engine) finish(ctx context.Context, ids []string) error {
	changes := make([]fleet.Change, len(ids))
	for i, id := range ids {
		c := e.courses[id]
		changes[i] = fleet.Finish{InstanceID: c.Row.InstanceID, JID: c.Ended.JID, Outcome: c.Ended.Outcome,
			Retcode: c.Ended.Retcode, From: c.Row.ClaimVersion}
	}
	return e.apply(ctx, "record", ids, changes, func(id string, _, row fleet.Minion) {
		c := e.courses[id]
		e.audit.Finished(id, *c.Ended, row)
		c.Ended = nil
		c.Saw(row, e.now())
	})
}

// apply writes changes and hands the rows of those that applied to done. What did
// not apply has been written by another: its row is seen as it is now. After an
// error the effect is unknown, so the rows are read before anything else.
func (e *Engine) apply(ctx context.Context, verb string, ids []string, changes []fleet.Change,
	done func(id string, before, row fleet.Minion)) error {
	results, err := e.store.Apply(ctx, changes)
	if err != nil {
		for _, id := range ids {
			e.courses[id].stale = true
		}
		return fmt.Errorf("%s %d highstates: %w", verb, len(ids), err)
	}
	for i, r := range results {
		id, c := ids[i], e.courses[ids[i]]
		r.Row.PublicKey = ""
		c.due = time.Time{}
		if r.Err == nil {
			done(id, c.Row, r.Row)
			continue
		}
		e.log.Debug("change did not apply", "minion", id, "change", verb, "err", r.Err)
		c.Saw(r.Row, e.now())
		e.inbox.hear(r.Row.ClaimJID)
		if errors.Is(r.Err, fleet.ErrAsked) || c.Ended != nil {
			// The rules thought that it would apply, the row says no: no other
			// write will change that at once.
			c.Ended = nil
			c.due = e.now().Add(retryMost)
		}
	}
	return nil
}

// publish sends the first highstate, one call for each jid.
func (e *Engine) publish(ctx context.Context, ids []string) error {
	byJID := map[string][]string{}
	for _, id := range ids {
		byJID[e.courses[id].Row.ClaimJID] = append(byJID[e.courses[id].Row.ClaimJID], id)
	}
	for _, jid := range slices.Sorted(maps.Keys(byJID)) {
		targets := byJID[jid]
		// Checked last of all: a master whose beats fail may have lost the claim.
		if !e.beats.Reach(e.now()) {
			return fmt.Errorf("publish highstate %s: own heartbeat does not reach the store", jid)
		}
		_, err := e.master.Publish(ctx, salt.Job{JID: jid, Targets: targets, Calls: []salt.Call{
			{Fun: e.cfg.Function, Args: e.cfg.Args, Kwargs: e.cfg.Kwargs}}})
		if err != nil && !errors.Is(err, salt.ErrUnreachable) {
			return fmt.Errorf("publish highstate %s to %d minions: %w", jid, len(targets), err)
		}
		// In doubt counts as sent: the minion drops a jid that it has seen, and if
		// it never saw this one, asking will tell.
		now := e.now()
		for _, id := range targets {
			e.courses[id].PublishedAt(now, err == nil)
			e.audit.Published(id, e.courses[id].Row, err)
		}
		if err != nil {
			return fmt.Errorf("publish highstate %s to %d minions: %w", jid, len(targets), err)
		}
	}
	return nil
}

// read reads rows again, of the instances that they were.
func (e *Engine) read(ctx context.Context, ids []string) error {
	instances := make([]string, len(ids))
	for i, id := range ids {
		instances[i] = e.courses[id].Row.InstanceID
	}
	rows, err := e.store.Minions(ctx, instances)
	if err != nil {
		return fmt.Errorf("read %d minions: %w", len(ids), err)
	}
	for i, id := range ids {
		if row, found := rows[instances[i]]; found {
			e.saw(id, lookup{row: row, found: true})
		} else {
			delete(e.courses, id)
		}
	}
	return nil
}

// reread reads the rows of writes that ended in doubt.
func (e *Engine) reread(ctx context.Context) error {
	var stale []string
	for id, c := range e.courses {
		if c.stale {
			stale = append(stale, id)
		}
	}
	slices.Sort(stale)
	for ids := range slices.Chunk(stale, batch) {
		if err := e.read(ctx, ids); err != nil {
			return err
		}
	}
	return nil
}
