package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// job is a ping or an ask under way.
type job struct {
	about string // the jid that was asked after; empty for a ping
	sent  time.Time
	until time.Time
}

// newJID makes a jid that this process has never used.
func (e *Engine) newJID() string {
	e.lastJID = salt.NewJID(e.now(), e.lastJID)
	return e.lastJID
}

// start makes a jid for a ping or a question, and listens for its returns.
func (e *Engine) start(about string, now time.Time) string {
	jid := e.newJID()
	e.jobs[jid] = job{about: about, sent: now, until: now.Add(jobsFor)}
	e.inbox.hear(jid)
	return jid
}

// ping asks which of the minions are connected here.
func (e *Engine) ping(ctx context.Context, ids []string) error {
	_, err := e.master.Ping(ctx, e.start("", e.now()), ids)
	if err != nil {
		return fmt.Errorf("ping %d minions: %w", len(ids), err)
	}
	for _, id := range ids {
		e.courses[id].Pinged = e.now()
	}
	return nil
}

// ask asks minions what became of their jobs, one call for each jid.
func (e *Engine) ask(ctx context.Context, ids []string) error {
	byJID := map[string][]string{}
	for _, id := range ids {
		byJID[e.courses[id].Row.ClaimJID] = append(byJID[e.courses[id].Row.ClaimJID], id)
	}
	for _, about := range slices.Sorted(maps.Keys(byJID)) {
		var jids [salt.Questions]string
		sent := e.now()
		for i := range jids {
			jids[i] = e.start(about, sent)
		}
		if err := e.master.AskAfter(ctx, jids, about, byJID[about]); err != nil {
			return fmt.Errorf("ask %d minions after %s: %w", len(byJID[about]), about, err)
		}
		for _, id := range byJID[about] {
			e.courses[id].AskedAt(e.now())
		}
	}
	return nil
}

// hearReturns takes in what minions returned: answers to pings and asks, and the
// ends of first highstates.
func (e *Engine) hearReturns(returns []event.Return, now time.Time) {
	for _, r := range returns {
		c := e.courses[r.ID]
		if c == nil {
			continue
		}
		c.due = time.Time{}
		asked, isAsk := e.jobs[r.JID]
		switch {
		case isAsk && asked.about == "":
			c.Here = now
		case isAsk:
			e.answered(c, asked, r, now)
		case r.JID == c.Row.ClaimJID && r.Fun == e.cfg.Function:
			c.Here = now
			c.Ended = &decide.Ended{JID: r.JID, Outcome: outcome(r.Retcode, event.Busy(r.Body)), Retcode: r.Retcode}
		}
	}
}

// answered takes in one of the answers that make an answer.
func (e *Engine) answered(c *course, asked job, r event.Return, now time.Time) {
	switch {
	case asked.sent.Before(c.answersTo):
		return // a later question is open
	case asked.sent.After(c.answersTo):
		c.answers, c.answersTo = salt.Answers{}, asked.sent
	}
	answer, complete, err := c.answers.Take(r.Fun, r.Body)
	if err != nil {
		e.log.Warn("answer not understood", "minion", r.ID, "jid", asked.about, "err", err)
		return
	}
	if !complete {
		c.Here = now
		return
	}
	a := decide.Answer{JID: asked.about, Asked: asked.sent, Running: answer.Running, NoCache: answer.NoCache, Failover: answer.Failover}
	if cached := answer.Cached; cached != nil {
		a.Ended = &decide.Ended{JID: asked.about, Outcome: outcome(cached.Retcode, cached.Busy), Retcode: cached.Retcode}
	}
	c.Answered(a, now)
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

// tidyJobs forgets jobs that nobody waits for any more.
func (e *Engine) tidyJobs(now time.Time) {
	maps.DeleteFunc(e.jobs, func(_ string, j job) bool { return !now.Before(j.until) })
	jids := make(map[string]struct{}, len(e.jobs)+len(e.courses))
	for jid := range e.jobs {
		jids[jid] = struct{}{}
	}
	for _, c := range e.courses {
		if c.Row.ClaimJID != "" {
			jids[c.Row.ClaimJID] = struct{}{}
		}
	}
	e.inbox.hearOnly(jids)
}
