package service

import (
	"context"
	"errors"
	"slices"
	"time"

	"phoenix/bridge/fleet"
)

const (
	// breakerEvery: how often the record of the circuit breaker is read while it is
	// open, so that an operator who closes it need not wait: a read of one item. While it
	// is closed, it is read before each claim, and for the metrics with each comparison.
	breakerEvery = 5 * time.Second
	// breakerTries bounds how often results are recorded anew as other masters recorded
	// theirs meanwhile. One of them gets through each time.
	breakerTries = 20
)

// breaker is what this master knows of the circuit breaker of first highstates.
type breaker struct {
	record fleet.Breaker
	fault  string // why the record cannot be decoded; empty: it can
	pollAt time.Time
}

func (d *driver) hasBreaker() bool { return d.cfg.Breakers != nil && !d.cfg.Highstate.Breaker.Off() }

// breakerOpen says why no new first highstate may begin; empty: they may. A record that
// cannot be decoded stands for an open one: it may have been.
func (d *driver) breakerOpen() string {
	const hint = " (phoenix highstate resume)"
	switch b := d.breaker; {
	case !d.hasBreaker():
		return ""
	case b.fault != "":
		return "the circuit breaker counts as open: " + b.fault + hint
	case b.record.Open():
		return "the circuit breaker is open since " + b.record.Opened + ": " + b.record.Reason + hint
	}
	return ""
}

// pollBreaker reads the record if it is time. A store that does not answer is noticed by
// the heartbeat; what was read last counts until then.
func (d *driver) pollBreaker(ctx context.Context) {
	if d.hasBreaker() && !d.now().Before(d.breaker.pollAt) {
		if d.readBreaker(ctx) != nil {
			d.breaker.pollAt = d.now().Add(breakerEvery)
		}
	}
}

// readBreaker reads the record. An error means that it is not known.
func (d *driver) readBreaker(ctx context.Context) error {
	record, err := d.cfg.Breakers.LastBreaker(ctx)
	if err != nil && !errors.Is(err, fleet.ErrCorrupt) {
		return err
	}
	d.sawBreaker(record, err)
	return nil
}

// sawBreaker takes the record in as it is now. err is why it cannot be decoded.
func (d *driver) sawBreaker(record fleet.Breaker, err error) {
	was, every := d.breakerOpen(), d.cfg.ResyncEvery
	if d.breaker.record, d.breaker.fault = record, ""; err != nil {
		d.breaker.fault = err.Error()
	}
	is := d.breakerOpen()
	if is != "" {
		every = breakerEvery
	}
	d.breaker.pollAt = d.now().Add(every)
	switch {
	case was == "" && is != "":
		d.log.Error("no new first highstate begins", "reason", is)
	case was != "" && is == "":
		d.log.Info("first highstates begin again", "resumed_by", record.ResumedBy)
	}
}

// mayBegin returns those of ids whose claim may be written now: any that is taken over
// or that an operator asked for, others only while the breaker is closed.
func (d *driver) mayBegin(ctx context.Context, ids []string) ([]string, error) {
	begins := func(id string) bool {
		row := d.highstates[id].Row
		return row.ClaimState != fleet.Claimed && !row.Requested()
	}
	if !d.hasBreaker() || !slices.ContainsFunc(ids, begins) {
		return ids, nil
	}
	if err := d.readBreaker(ctx); err != nil {
		return nil, err
	}
	if d.breakerOpen() == "" {
		return ids, nil
	}
	return slices.DeleteFunc(slices.Clone(ids), begins), nil // the rules say what those wait for
}

// countResults records how highstates ended, for the breaker to count. That one was
// busy is not how it ended.
func (d *driver) countResults(ctx context.Context, ids []string) error {
	var results []fleet.BreakerResult
	for _, id := range ids {
		if c := d.highstates[id]; c.Ended.Outcome != fleet.Busy {
			results = append(results, fleet.BreakerResult{InstanceID: c.Row.InstanceID, JID: c.Ended.JID,
				Failed: c.Ended.Outcome != fleet.Succeeded})
		}
	}
	if !d.hasBreaker() || len(results) == 0 {
		return nil
	}
	if err := d.readBreaker(ctx); err != nil {
		return err
	}
	for range breakerTries {
		next, changed := d.cfg.Highstate.Breaker.Record(d.breaker.record, results, d.cfg.InstanceID, d.wall())
		if !changed || d.breaker.fault != "" {
			return nil
		}
		now, mine, err := d.cfg.Breakers.WriteBreaker(ctx, next)
		if err != nil && !errors.Is(err, fleet.ErrCorrupt) {
			return err
		}
		d.sawBreaker(now, err)
		if mine {
			if now.Open() {
				d.audit.Opened(d.cfg.InstanceID, now)
			}
			return nil
		}
	}
	d.log.Warn("results are not counted by the circuit breaker: other masters record theirs all the time",
		"results", len(results))
	return nil
}
