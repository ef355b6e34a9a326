package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
	"phoenix/bridge/salt"
)

// job is a ping or a question under way.
type job struct {
	kind  decide.Act // Ping, Ask, Trace or Kind
	about string     // for Trace: the jid that was asked after
	sent  time.Time
	until time.Time
}

// newJID makes a jid that this process has never used.
func (d *driver) newJID() string {
	d.lastJID = salt.NewJID(d.now(), d.lastJID)
	return d.lastJID
}

// start makes a jid for a ping or a question, and listens for its returns.
func (d *driver) start(kind decide.Act, about string, now time.Time) string {
	jid := d.newJID()
	d.jobs[jid] = job{kind: kind, about: about, sent: now, until: now.Add(jobsFor)}
	d.inbox.subscribe(jid)
	return jid
}

// question publishes a ping or a question. Where the job cache makes jids of its
// own (master_job_cache), the answers return under that one.
func (d *driver) question(kind decide.Act, about string, now time.Time, publish func(jid string) error) error {
	jid := d.start(kind, about, now)
	err := publish(jid)
	if other, ok := errors.AsType[*salt.OtherJIDError](err); ok && other.JID != "" {
		d.jobs[other.JID] = d.jobs[jid]
		delete(d.jobs, jid)
		d.inbox.subscribe(other.JID)
		return nil
	}
	return err
}

// ping asks which of the minions are connected here.
func (d *driver) ping(ctx context.Context, ids []string) error {
	err := d.question(decide.Ping, "", d.now(), func(jid string) error {
		_, err := d.master.Ping(ctx, jid, ids)
		return err
	})
	if err != nil {
		return fmt.Errorf("ping %s: %w", plural.Of(len(ids), "minion"), err)
	}
	for _, id := range ids {
		d.highstates[id].Pinged = d.now()
	}
	return nil
}

// ask asks minions what they run: one job, whatever their jids.
func (d *driver) ask(ctx context.Context, ids []string) error {
	sent := d.now()
	if err := d.question(decide.Ask, "", sent,
		func(jid string) error { return d.master.Ask(ctx, jid, salt.WhatRuns(), ids) }); err != nil {
		return fmt.Errorf("ask %s what they run: %w", plural.Of(len(ids), "minion"), err)
	}
	for _, id := range ids {
		d.highstates[id].AskedAt(sent)
	}
	return nil
}

// trace asks minions that do not run one jid what else they know of it.
func (d *driver) trace(ctx context.Context, ids []string) error {
	about, sent := d.highstates[ids[0]].Row.ClaimJID, d.now()
	for _, q := range []salt.Question{salt.FindJob(about), salt.FindCached(about)} {
		if err := d.question(decide.Trace, about, sent,
			func(jid string) error { return d.master.Ask(ctx, jid, q, ids) }); err != nil {
			return fmt.Errorf("ask %s after %s: %w", plural.Of(len(ids), "minion"), about, err)
		}
	}
	for _, id := range ids {
		d.highstates[id].TracedAt(sent)
	}
	return nil
}

// askMasterType asks minions by how many masters they are served.
func (d *driver) askMasterType(ctx context.Context, ids []string) error {
	sent := d.now()
	if err := d.question(decide.Kind, "", sent,
		func(jid string) error { return d.master.Ask(ctx, jid, salt.MasterType(), ids) }); err != nil {
		return fmt.Errorf("ask %s for their master_type: %w", plural.Of(len(ids), "minion"), err)
	}
	for _, id := range ids {
		d.highstates[id].KindAskedAt(sent)
	}
	return nil
}

// handleReturns records what minions returned: answers to pings and questions, and
// the ends of first highstates. It needs of a body what salt.Brief leaves of it.
func (d *driver) handleReturns(returns []event.Return, now time.Time) {
	for _, r := range returns {
		c := d.highstates[r.ID]
		if c == nil {
			continue
		}
		c.due = time.Time{}
		if asked, is := d.jobs[r.JID]; is {
			if err := d.handleAnswer(c, asked, r, now); err != nil && c.unread != err.Error() {
				c.unread = err.Error()
				d.log.Warn("answer not understood", "minion", r.ID, "fun", r.Fun, "err", err)
			}
			continue
		}
		if r.JID != c.Row.ClaimJID || r.Fun != d.cfg.Function {
			continue
		}
		c.ConnectedAt = now
		if end, twice := jobEnd(r.JID, r.Retcode, salt.ReadBusy(r.Body)); twice {
			c.PublishedTwice(now)
		} else {
			c.Ended = &end
		}
	}
}

// handleAnswer records an answer to one of our jobs.
func (d *driver) handleAnswer(c *highstate, asked job, r event.Return, now time.Time) error {
	if !c.Counts(asked.sent) {
		return nil
	}
	c.ConnectedAt = now
	switch asked.kind {
	case decide.Ask:
		jobs, err := salt.ReadRunning(r.Body)
		if err != nil {
			return err
		}
		own, by := findJobs(c.Row, jobs)
		c.JobsRunning(own, by, asked.sent, now)
	case decide.Kind:
		failover, err := salt.ReadFailover(r.Body)
		if err != nil {
			return err
		}
		c.MasterTypeIs(failover, asked.sent, now)
	case decide.Trace:
		return d.handleTrace(c, asked, r, now)
	}
	return nil
}

// findJobs finds the row's job, and a state run that is not ours, among the jobs that
// run on a minion.
func findJobs(row fleet.Minion, jobs []salt.Running) (own bool, by *decide.Blocker) {
	for _, j := range jobs {
		switch {
		case row.ClaimState == fleet.Claimed && j.JID == row.ClaimJID:
			own = true
		case j.State() && by == nil:
			b := blocker(j)
			by = &b
		}
	}
	return own, by
}

// blocker is what a minion says of a state run. A jid is the time of its begin, by
// the clock of whoever made it.
func blocker(j salt.Running) decide.Blocker {
	b := decide.Blocker{JID: j.JID, Fun: j.Fun, PID: j.PID, Started: j.Started}
	if b.Started == "" {
		b.Started = salt.JIDTime(j.JID)
	}
	return b
}

// handleTrace records one of the two answers that make one on a jid.
func (d *driver) handleTrace(c *highstate, asked job, r event.Return, now time.Time) error {
	switch {
	case asked.sent.Before(c.answersTo):
		return nil // a later question is open
	case asked.sent.After(c.answersTo):
		c.answers, c.answersTo = salt.Answers{}, asked.sent
	}
	answer, complete, err := c.answers.Take(r.Fun, r.Body)
	if err != nil || !complete {
		return err
	}
	a := decide.Answer{JID: asked.about, Asked: asked.sent, Running: answer.Running, NoCache: answer.NoCache}
	if cached := answer.Cached; cached != nil {
		end, twice := jobEnd(asked.about, cached.Retcode, cached.Busy)
		if a.Doubled = twice; !twice {
			a.Ended = &end
		}
	}
	c.Answered(a, now)
	return nil
}

// jobEnd reads how a job ended; twice: it did not, it was sent to a minion that ran
// it already.
func jobEnd(jid string, retcode int, busy []salt.Running) (end decide.Ended, twice bool) {
	end = decide.Ended{JID: jid, Retcode: retcode, Outcome: outcome(retcode, len(busy) > 0)}
	for i, j := range busy {
		if i == 0 {
			end.By = blocker(j)
		}
		twice = twice || j.JID == jid
	}
	return end, twice && end.Outcome == fleet.Busy
}

// outcome goes by the return code: bodies may be trimmed by the bus (1 MiB), and
// "success" says only that the function ran.
func outcome(retcode int, busy bool) fleet.Outcome {
	switch {
	case retcode == 0:
		return fleet.Succeeded
	case busy:
		return fleet.Busy
	}
	return fleet.Erred
}

// dropOldJobs forgets jobs that nobody waits for any more.
func (d *driver) dropOldJobs(now time.Time) {
	d.jobsDroppedAt = now
	maps.DeleteFunc(d.jobs, func(_ string, j job) bool { return !now.Before(j.until) })
	jids := make(map[string]struct{}, len(d.jobs)+len(d.highstates))
	for jid := range d.jobs {
		jids[jid] = struct{}{}
	}
	awaited := make(map[string]struct{}, len(d.highstates))
	for id, c := range d.highstates {
		awaited[id] = struct{}{}
		if c.Row.ClaimJID != "" {
			jids[c.Row.ClaimJID] = struct{}{}
		}
	}
	d.inbox.subscribeOnly(jids, awaited)
}
