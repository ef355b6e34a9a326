package service

import (
	"context"
	"strings"
	"time"

	"phoenix/bridge/retry"
)

// stageName names one kind of the engine's work, or one thing that it asks.
type stageName string

// The stages, in the order in which a step goes through them. Each fails and is
// tried again by itself: one that cannot be done keeps no other from being done.
const (
	stagePreload      stageName = "known keys"
	stageComparison   stageName = "comparison"
	stageTerminations stageName = "terminations"
	stageTombstones   stageName = "tombstones"
	stageLaunches     stageName = "launches"
	stageMinions      stageName = "minions"
	stageNames        stageName = "names"
	stageProofs       stageName = "proofs"
	stageAccept       stageName = "accepting keys"
	stageHighstates   stageName = "highstates"
	stageDeletes      stageName = "deleting keys"
)

var stageOrder = [...]stageName{stagePreload, stageComparison, stageTerminations, stageTombstones,
	stageLaunches, stageMinions,
	stageNames, stageProofs, stageAccept, stageHighstates, stageDeletes}

// stage is how one of them is doing.
type stage struct {
	failures int // in a row
	retryAt  time.Time
	fault    string    // why the last try failed; empty: it did not
	loggedAt time.Time // when that was last logged
	tries    int       // of a stage that counts them by itself; see reportStage
}

const (
	// retryFirst, retryMost: the back-off of a stage that fails.
	retryFirst = 500 * time.Millisecond
	retryMost  = 30 * time.Second
	// relogEvery: a fault that stays is logged again that often.
	relogEvery = 10 * time.Minute
	// relogNews: and another one in its place, not more often than that.
	relogNews = 30 * time.Second
)

// runStage does the work of a stage, unless it failed a moment ago. It reports
// whether the work was done.
func (e *Engine) runStage(ctx context.Context, name stageName, do func(context.Context) error) bool {
	if !e.stageDue(name) {
		return false
	}
	err := do(ctx)
	if err != nil && ctx.Err() != nil {
		return false // we are being stopped; that says nothing of the stage
	}
	e.endStage(name, err)
	return err == nil
}

// stageDue reports whether a stage may be tried.
func (e *Engine) stageDue(name stageName) bool { return !e.now().Before(e.stages[name].retryAt) }

// endStage records how a try of a stage ended.
func (e *Engine) endStage(name stageName, err error) {
	s, now := e.stages[name], e.now()
	if err == nil {
		if s.failures > 0 {
			e.log.Info("work continues", "stage", string(name), "failures", s.failures)
		}
		e.stages[name] = stage{}
		return
	}
	s.failures++
	news := withoutDigits(s.fault) != withoutDigits(err.Error()) && now.Sub(s.loggedAt) >= relogNews
	wait := retry.Backoff{First: retryFirst, Most: retryMost}.After(s.failures)
	s.retryAt, s.fault = now.Add(wait), err.Error()
	e.audit.HeldUp()
	if s.failures == 1 || news || now.Sub(s.loggedAt) >= relogEvery {
		s.loggedAt = now
		e.log.Warn("work delayed", "stage", string(name), "err", err, "retry_in", wait, "failures", s.failures)
	}
	e.stages[name] = s
}

// withoutDigits is what two texts of one fault have in common: job ids and counts differ.
func withoutDigits(text string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, text)
}

// reportStage records what a stage says of itself that paces its tries by itself, and how
// many of them have failed. The same error again without another try is that of the last.
func (e *Engine) reportStage(name stageName, err error, tries int) {
	if s := e.stages[name]; err != nil && s.fault == err.Error() && s.tries == tries &&
		e.now().Sub(s.loggedAt) < relogEvery {
		return
	}
	if e.endStage(name, err); err != nil {
		s := e.stages[name]
		s.retryAt, s.tries = time.Time{}, tries
		e.stages[name] = s
	}
}

// stageDueAt is when a stage that has work since at is to be tried.
func (e *Engine) stageDueAt(name stageName, at time.Time) time.Time {
	if retry := e.stages[name].retryAt; retry.After(at) {
		return retry
	}
	return at
}
