package service

import (
	"context"
	"errors"

	"phoenix/bridge/admission"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// accept accepts pending keys, as many in a call as the master takes: a batch
// that it refuses is halved until the bad one is alone. While the master does not
// answer, or refuses one after the other, keys wait.
func (e *Engine) accept(ctx context.Context, views []*keyView, connected map[string]bool) {
	if len(views) == 0 {
		return
	}
	if !e.stageDue(stageAccept) {
		e.postponeAccept(views, connected)
		return
	}
	left, err := e.acceptBatch(ctx, views)
	switch {
	case err == nil:
		e.refusals = 0
		e.endStage(stageAccept, nil)
		return
	case ctx.Err() != nil:
	case errors.Is(err, salt.ErrRefused) && len(left) > 1:
		half := len(left) / 2
		e.accept(ctx, left[:half], connected)
		e.accept(ctx, left[half:], connected)
		return
	case errors.Is(err, salt.ErrRefused):
		for _, v := range left {
			v.failed = true
			e.retryLater(v.ID, connected[v.ID], err)
		}
		if e.refusals++; e.refusals >= maxRefusals { // that is no fault of the keys
			e.refusals = 0
			e.endStage(stageAccept, err)
		}
		return
	default:
		e.endStage(stageAccept, err)
	}
	e.postponeAccept(left, connected)
}

func (e *Engine) postponeAccept(views []*keyView, connected map[string]bool) {
	for _, v := range views {
		v.failed = true
		e.queue.postpone(v.ID, connected[v.ID], e.stageDueAt(stageAccept, e.now()))
	}
}

// acceptBatch accepts pending keys in one call. left are those that were not accepted.
func (e *Engine) acceptBatch(ctx context.Context, views []*keyView) (left []*keyView, err error) {
	pending := make([]admission.Pending, len(views))
	for i, v := range views {
		pending[i] = admission.Pending{ID: v.ID, Digest: v.Pending.Digest}
	}
	outcomes, err := admission.Accept(ctx, e.master, e.keys, pending)
	for i, o := range outcomes {
		v := views[i]
		switch {
		case o.Err == nil:
			v.Accepted = decide.Key{Present: true, Digest: o.Digest}
			e.audit.Accepted(v.ID, v.decision, o.Digest)
			e.observeAccepted(v)
		case errors.Is(o.Err, admission.ErrNotAccepted):
			if err != nil {
				left = append(left, v)
			} // else it vanished meanwhile; the minion's next auth request brings it back
		case errors.Is(o.Err, admission.ErrWrongKey):
			v.failed = true
			e.wrong[v.ID] = o.Digest
			e.audit.WrongKey(v.ID, v.Pending.Digest, o.Digest)
			if o.Delete != nil { // it is deleted with those of terminated minions; see isWrong
				e.log.Error("wrong key was accepted and is not deleted yet", "minion", v.ID, "err", o.Delete)
			}
			e.queue.retry(v.ID, false, e.now())
		default:
			v.failed = true
			e.retryLater(v.ID, false, o.Err)
		}
	}
	return left, err
}

// observeAccepted measures how long after its launch a minion's first key was accepted.
func (e *Engine) observeAccepted(v *keyView) {
	if at, err := fleet.ParseTime(v.listed); err == nil {
		e.audit.counters.Durations.Accepted(e.wall().Sub(at))
	}
}

// isWrong reports whether the accepted key of a view is one that was accepted in
// another's place, and forgets it once it is gone.
func (e *Engine) isWrong(v *keyView) bool {
	digest, there := e.wrong[v.ID]
	if there && (!v.Accepted.Present || v.Accepted.Digest != digest) {
		delete(e.wrong, v.ID)
		there = false
	}
	return there
}
