package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

// maxRounds bounds how often one step comes back to a minion: claim, publish and
// then wait are three acts; more than a few can only be a fault of the rules.
const maxRounds = 6

// What fails waits, and what does not need it goes on.
const (
	// minionRetryFirst, minionRetryMost: the back-off of one minion whose act failed.
	minionRetryFirst = 2 * time.Second
	minionRetryMost  = 10 * time.Minute
	// maxRefusals: so many single minions refused in a row, with none done between
	// them, are no fault of the minions.
	maxRefusals = 8
	// askEvery: questions to minions go out in rounds, one job for all that is
	// due, so that 700 highstates under way are not 700 jobs.
	askEvery = 5 * time.Second
)

// side is what an act needs.
type side int

const (
	theStore side = iota
	theMaster
	sides
)

func (s side) String() string { return [...]string{"store", "master"}[s] }

// needs says which side an act needs.
func needs(act decide.Act) side {
	switch act {
	case decide.Publish, decide.Ask, decide.Trace, decide.Kind, decide.Ping:
		return theMaster
	}
	return theStore
}

// acts are the steps of many minions, gathered so that each kind of effect is
// one call.
type acts map[decide.Act][]string

// effect does one act for many minions: of one jid in a call, or of any.
type effect struct {
	act   decide.Act
	do    func(context.Context, []string) error
	byJID bool
}

// drive does what is due for each first highstate, until nothing is. What fails
// keeps nothing else from being done: one minion waits by itself, and with the
// store or the master away, what needs the other goes on. The error is for
// information, one for each side that is away. It costs little where nothing is
// due: a walk over the highstates.
func (d *driver) drive(ctx context.Context) error {
	d.rereadStale(ctx)
	d.pollBreaker(ctx)
	effects := []effect{
		{decide.Finish, d.recordEnd, false}, {decide.Rename, d.rename, false}, {decide.Read, d.read, false},
		{decide.Take, d.claim, false},
		{decide.Publish, d.publish, true}, {decide.Ask, d.ask, false}, {decide.Trace, d.trace, true},
		{decide.Kind, d.askMasterType, false}, {decide.Ping, d.ping, false},
	}
	for range maxRounds {
		todo := d.next()
		if len(todo) == 0 || ctx.Err() != nil {
			break
		}
		for _, f := range effects {
			for _, alike := range d.group(todo[f.act], f) {
				for ids := range slices.Chunk(alike, batch) {
					d.call(ctx, needs(f.act), ids, f.do)
				}
			}
		}
		if len(todo[decide.Ask])+len(todo[decide.Trace])+len(todo[decide.Kind])+len(todo[decide.Ping]) > 0 {
			d.failures.askAt = d.now().Add(askEvery)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.sidesDown()
}

// group returns ids in groups that one call does for.
func (d *driver) group(ids []string, f effect) [][]string {
	if !f.byJID {
		return [][]string{ids}
	}
	groups := map[string][]string{}
	for _, id := range ids {
		c := d.highstates[id]
		if c == nil {
			continue
		}
		jid := c.Row.ClaimJID
		if f.act == decide.Publish && c.alone {
			jid += " " + id
		}
		groups[jid] = append(groups[jid], id)
	}
	var all [][]string
	for _, jid := range slices.Sorted(maps.Keys(groups)) {
		all = append(all, groups[jid])
	}
	return all
}

// next asks for the step of each minion that is due.
func (d *driver) next() acts {
	now := d.now()
	todo := acts{}
	slots := d.cfg.Concurrency
	for _, c := range d.highstates {
		if c.Occupies(d.cfg.InstanceID, now) {
			slots--
		}
	}
	open := d.breakerOpen()
	var due []string
	for id, c := range d.highstates {
		if c.halted && open == "" {
			c.due = time.Time{}
		}
		if c.queued && slots > 0 {
			c.queued, c.due = false, time.Time{}
		}
		switch {
		case c.queued, c.due.After(now):
		case c.stale: // its row is not known: reread has been refused it
			until, why := d.waitUntil(c, theStore)
			c.due, c.why = until, why
			if !until.After(now) {
				c.due = now.Add(retryFirst)
			}
		default:
			c.halted = false
			due = append(due, id)
		}
	}
	slices.Sort(due) // the same work gives the same calls, in the same order
	self := decide.Self{ID: d.cfg.InstanceID, Incarnation: d.cfg.Incarnation,
		Beating: d.beats.LeaseValid(now), Draining: d.beats.Draining(), Slots: slots, Open: open}
	for _, id := range due {
		c := d.highstates[id]
		step := d.rule(d.cfg.Highstate, self, d.beats.OwnerLiveness(c.Row), c.HighstateView, now)
		c.why, c.until = step.Reason, time.Time{}
		switch step.Act {
		case decide.Rest:
			c.due = now.Add(jobsFor) // until something happens; the comparison checks it anyway
			if !c.Row.WantsHighstate() {
				d.endHighstate(id)
			}
			continue
		case decide.Wait:
			c.due, c.until = step.At, step.At
			continue
		case decide.Queue:
			c.queued = true
			continue
		case decide.Halt:
			c.halted, c.due = true, now.Add(jobsFor) // until the breaker closes, or something happens
			continue
		}
		if until, why := d.waitUntil(c, needs(step.Act)); until.After(now) {
			c.due, c.until, c.why = until, until, fmt.Sprintf("%s; held up: %s", step.Reason, why)
			continue
		}
		switch step.Act {
		case decide.Ask, decide.Trace, decide.Kind, decide.Ping:
			if d.failures.askAt.After(now) {
				c.due = d.failures.askAt
				continue
			}
		case decide.Finish:
			c.Ended = &step.Ended
		case decide.Take:
			if c.Row.ClaimState != fleet.Claimed {
				self.Slots--
			}
		}
		todo[step.Act] = append(todo[step.Act], id)
	}
	return todo
}

// countBlocked counts the minions that a state run of somebody else keeps from their
// first highstate.
func (d *driver) countBlocked() (n int) {
	for _, c := range d.highstates {
		if _, blocked := c.Blocked(); blocked {
			n++
		}
	}
	return n
}
