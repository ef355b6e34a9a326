package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
	"phoenix/bridge/salt"
)

// endHighstate ends a highstate that wants nothing any more.
func (d *driver) endHighstate(id string) {
	c := d.highstates[id]
	delete(d.highstates, id)
	d.rows.put(id, cachedRow{row: c.Row, found: true, until: d.now().Add(knownFor)})
}

// claim writes claims: new ones under one new jid, for one publish; a claim that
// is taken over keeps the jid that the minion may have seen.
func (d *driver) claim(ctx context.Context, ids []string) error {
	ids, err := d.mayBegin(ctx, ids)
	if err != nil || len(ids) == 0 {
		return err
	}
	jid := d.newJID()
	changes := make([]fleet.Change, len(ids))
	for i, id := range ids {
		r := d.highstates[id].Row
		c := fleet.Claim{InstanceID: r.InstanceID, From: r.ClaimVersion, Owner: d.cfg.InstanceID,
			Incarnation: d.cfg.Incarnation, JID: jid, Attempt: r.Attempt + 1}
		if r.ClaimState == fleet.Claimed {
			c.JID, c.Attempt = r.ClaimJID, r.Attempt
		}
		d.inbox.subscribe(c.JID)
		changes[i] = c
	}
	return d.apply(ctx, "claim", ids, changes, func(id string, before, row fleet.Minion) {
		d.highstates[id].ClaimWritten(row, d.now())
		d.audit.Claimed(id, before, row)
	})
}

// recordEnd writes how jobs ended.
func (d *driver) recordEnd(ctx context.Context, ids []string) error {
	// First, so that no end is on record that the circuit breaker has not counted; what
	// is done twice counts once.
	if err := d.countResults(ctx, ids); err != nil {
		return err
	}
	changes := make([]fleet.Change, len(ids))
	for i, id := range ids {
		c := d.highstates[id]
		changes[i] = fleet.Finish{InstanceID: c.Row.InstanceID, JID: c.Ended.JID, Outcome: c.Ended.Outcome,
			Retcode: c.Ended.Retcode, From: c.Row.ClaimVersion}
	}
	return d.apply(ctx, "record", ids, changes, func(id string, _, row fleet.Minion) {
		c := d.highstates[id]
		d.audit.Finished(id, *c.Ended, row)
		if o := c.Ended.Outcome; (o == fleet.Succeeded || o == fleet.Erred) && !c.firstConnected.IsZero() {
			d.audit.counters.Durations.Done(d.now().Sub(c.firstConnected))
		}
		c.UpdateRow(row, d.now())
		c.Ended = nil
	})
}

// rename writes the jids under which the master published, where they are not
// those that it was given.
func (d *driver) rename(ctx context.Context, ids []string) error {
	changes := make([]fleet.Change, len(ids))
	for i, id := range ids {
		c := d.highstates[id]
		changes[i] = fleet.Rename{InstanceID: c.Row.InstanceID, From: c.Row.ClaimVersion,
			JID: c.Row.ClaimJID, As: c.SentAs}
	}
	return d.apply(ctx, "rename", ids, changes, func(id string, _, row fleet.Minion) {
		d.highstates[id].Renamed(row, d.now())
	})
}

// apply writes changes and hands the rows of those that applied to done. What did
// not apply has been written by another: its row is seen as it is now. After an
// error the effect is unknown, so the rows are read before anything else.
func (d *driver) apply(ctx context.Context, verb string, ids []string, changes []fleet.Change,
	done func(id string, before, row fleet.Minion)) error {
	results, err := d.store.Apply(ctx, changes)
	if err != nil {
		for _, id := range ids {
			d.highstates[id].stale = true
		}
		return fmt.Errorf("%s %s: %w", verb, plural.Of(len(ids), "highstate"), err)
	}
	for i, r := range results {
		id, c := ids[i], d.highstates[ids[i]]
		r.Row.PublicKey = ""
		c.due = time.Time{}
		switch {
		case r.Err == nil:
			c.stale = false
			done(id, c.Row, r.Row)
			continue
		case errors.Is(r.Err, fleet.ErrNotFound):
			// Pruned, or taken out, since it was read: nobody wants anything of it.
			d.log.Warn("highstate abandoned: its row is gone", "minion", id, "change", verb)
			d.dropHighstate(id)
			continue
		case !isRefusal(r.Err):
			c.stale = true
			d.holdBack(id, theStore, fmt.Errorf("%s highstate: %w", verb, r.Err))
			continue
		}
		d.log.Debug("change did not apply", "minion", id, "change", verb, "err", r.Err)
		c.stale = false
		c.UpdateRow(r.Row, d.now())
		c.stale = c.anew // its keys are to be checked: see rowRead
		d.inbox.subscribe(r.Row.ClaimJID)
		if errors.Is(r.Err, fleet.ErrPrecondition) || c.Ended != nil {
			// The rules thought that it would apply, the row says no: no other
			// write will change that at once.
			c.Ended = nil
			c.due = d.now().Add(retryMost)
		}
	}
	return nil
}

// isRefusal reports whether a row as it stands says no: the store has nothing to say
// of itself.
func isRefusal(err error) bool {
	for _, of := range []error{fleet.ErrTerminated, fleet.ErrOtherKey, fleet.ErrConflict, fleet.ErrClaimed,
		fleet.ErrPrecondition} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}

// dropHighstate ends a highstate, and what is remembered of its row.
func (d *driver) dropHighstate(id string) {
	delete(d.highstates, id)
	d.rows.drop(id)
	delete(d.unchanged, id)
}

// publish sends the first highstate to minions that are claimed under one jid.
func (d *driver) publish(ctx context.Context, ids []string) error {
	jid := d.highstates[ids[0]].Row.ClaimJID
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		return d.breakerOpen() != "" && !d.highstates[id].Row.Requested()
	})
	if len(ids) == 0 {
		return nil
	}
	// Checked last of all: a master whose beats fail may have lost the claim.
	if !d.beats.LeaseValid(d.now()) {
		return nil // the rules say what to wait for
	}
	_, err := d.master.Publish(ctx, salt.Job{JID: jid, Targets: ids, Calls: []salt.Call{
		{Fun: d.cfg.Function, Args: d.cfg.Args, Kwargs: d.cfg.Kwargs}}})
	now := d.now()
	if other, ok := errors.AsType[*salt.OtherJIDError](err); ok {
		d.log.Error("master published the highstate under another jid; it is not sent again to these minions: see master_job_cache",
			"jid", jid, "published_as", other.JID, "minions", len(ids))
		d.inbox.subscribe(other.JID)
		for _, id := range ids {
			d.highstates[id].PublishedAs(other.JID, now)
			d.audit.Published(id, d.highstates[id].Row, err)
		}
		return nil
	}
	doubt := errors.Is(err, salt.ErrUnreachable) && !salt.NotSent(err) || errors.Is(err, salt.ErrDoubt)
	if err != nil {
		err = fmt.Errorf("publish highstate %s to %s: %w", jid, plural.Of(len(ids), "minion"), err)
		if !doubt {
			return err
		}
	}
	// In doubt counts as sent: the minion drops a jid that it has seen, and if
	// it never saw this one, a later question finds that.
	for _, id := range ids {
		d.highstates[id].PublishedAt(now, err == nil)
		d.audit.Published(id, d.highstates[id].Row, err)
	}
	if errors.Is(err, salt.ErrDoubt) {
		// One of them may be why: the next time, each goes by itself. Now, none is
		// sent twice.
		d.log.Warn("highstate may have been published", "err", err)
		for _, id := range ids {
			d.highstates[id].alone = true
		}
		return nil
	}
	return err
}

// read reads rows again, of the instances that they were.
func (d *driver) read(ctx context.Context, ids []string) error {
	instances := make([]string, len(ids))
	for i, id := range ids {
		instances[i] = d.highstates[id].Row.InstanceID
	}
	rows, err := d.store.Minions(ctx, instances)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return fmt.Errorf("read %s: %w", plural.Of(len(ids), "minion"), err)
	}
	for i, id := range ids {
		switch row, found := rows[instances[i]]; {
		case bad[instances[i]] != nil:
			d.highstates[id].stale = true
			d.holdBack(id, theStore, bad[instances[i]])
		case found:
			d.rowRead(id, cachedRow{row: row, found: true})
		default:
			delete(d.highstates, id)
		}
	}
	return nil
}

// rereadStale reads the rows of writes that ended in doubt.
func (d *driver) rereadStale(ctx context.Context) {
	now := d.now()
	var stale []string
	for id, c := range d.highstates {
		if until, _ := d.waitUntil(c, theStore); c.stale && !until.After(now) {
			stale = append(stale, id)
		}
	}
	slices.Sort(stale)
	for ids := range slices.Chunk(stale, batch) {
		d.call(ctx, theStore, ids, d.read)
	}
}
