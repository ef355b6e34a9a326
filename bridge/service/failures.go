package service

import (
	"context"
	"errors"
	"slices"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/retry"
	"phoenix/bridge/salt"
)

// backoff is a wait after failures in a row.
type backoff struct {
	until    time.Time
	failures int
	why      string
}

func (h *backoff) failed(err error, first, most time.Duration, now time.Time) (news bool) {
	news = h.why != err.Error()
	h.failures++
	h.until = now.Add(retry.Backoff{First: first, Most: most}.After(h.failures))
	h.why = err.Error()
	return news
}

// callFailures is what drive remembers of failures, besides those of single highstates.
type callFailures struct {
	down    [sides]backoff // the whole of it
	err     [sides]error
	tries   int       // of a side that failed
	refused int       // single minions, in a row
	askAt   time.Time // when the next round of questions may go out
}

// downFor: a side of which nothing was asked for that long since its last failure is no
// longer called down, if this master is proven to serve and its beats reach the store.
const downFor = time.Minute

// sidesDown is what delays whole sides. One that has failed is down until a call of it
// succeeds: that the next one is due is no success.
func (d *driver) sidesDown() error {
	now := d.now()
	var errs []error
	for s := range sides {
		if d.failures.err[s] == nil {
			continue
		}
		if now.Sub(d.failures.down[s].until) > downFor && d.beats.LeaseValid(now) {
			d.failures.down[s], d.failures.err[s] = backoff{}, nil
			continue
		}
		errs = append(errs, d.failures.err[s])
	}
	return errors.Join(errs...)
}

// call does something for many minions. If it is refused, it is tried for each
// half of them, until those are alone for whom it is.
func (d *driver) call(ctx context.Context, s side, ids []string, do func(context.Context, []string) error) {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return d.highstates[id] == nil })
	now := d.now()
	if len(ids) == 0 || ctx.Err() != nil || now.Before(d.failures.down[s].until) {
		return // next makes them wait
	}
	err := do(ctx, ids)
	now = d.now()
	switch {
	case err == nil:
		d.failures.down[s], d.failures.err[s], d.failures.refused = backoff{}, nil, 0
		for _, id := range ids {
			if c := d.highstates[id]; c != nil && !now.Before(c.backoff[s].until) {
				c.backoff[s] = backoff{}
			}
		}
	case ctx.Err() != nil:
	case concernsAll(err):
		d.sideFailed(s, err)
	case len(ids) == 1:
		d.holdBack(ids[0], s, err)
		if d.failures.refused++; d.failures.refused >= maxRefusals {
			d.failures.refused = 0
			d.sideFailed(s, err)
		}
	default:
		d.call(ctx, s, ids[:len(ids)/2], do)
		d.call(ctx, s, ids[len(ids)/2:], do)
	}
}

// concernsAll reports whether an error concerns everybody, whatever was asked for.
func concernsAll(err error) bool { return causeOf(err) != err }

// causeOf returns which of the errors that concern everybody an error is, without the call
// that it was met at; else the error itself.
func causeOf(err error) error {
	for _, of := range []error{fleet.ErrUnavailable, fleet.ErrDenied, salt.ErrUnreachable, salt.ErrAuth,
		salt.ErrDenied} {
		if errors.Is(err, of) {
			return of
		}
	}
	return err
}

// sideFailed lets what needs a side wait. Minions show the cause alone: the log has the rest.
func (d *driver) sideFailed(s side, err error) {
	d.failures.err[s] = err
	d.failures.tries++
	d.failures.down[s].failed(causeOf(err), retryFirst, retryMost, d.now())
}

// holdBack lets one minion wait, for what failed for it alone.
func (d *driver) holdBack(id string, s side, err error) {
	c := d.highstates[id]
	if c == nil {
		return
	}
	if c.backoff[s].failed(err, minionRetryFirst, minionRetryMost, d.now()) {
		d.log.Warn("highstate delayed", "minion", id, "err", err)
	}
}

// waitUntil says until when c waits for a side, and why.
func (d *driver) waitUntil(c *highstate, s side) (until time.Time, why string) {
	until, why = c.backoff[s].until, c.backoff[s].why
	if away := d.failures.down[s]; away.until.After(until) {
		until, why = away.until, away.why
	}
	return until, why
}
