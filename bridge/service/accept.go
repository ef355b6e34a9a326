package service

import (
	"context"
	"errors"
	"fmt"

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

// acceptBatch accepts pending keys in one call, then reads what was accepted,
// however the call ended: one that failed may have been carried out, and between
// our look and the master's an impostor may have taken the place. left are those
// that were not accepted.
func (e *Engine) acceptBatch(ctx context.Context, views []*keyView) (left []*keyView, err error) {
	ids := make([]string, len(views))
	for i, v := range views {
		ids[i] = v.ID
	}
	if err = e.master.Accept(ctx, ids); err != nil {
		err = fmt.Errorf("accept %d keys: %w", len(ids), err)
	}
	var wrong []string
	for _, v := range views {
		text, read := e.keys.Read(v.ID, salt.Accepted)
		if errors.Is(read, salt.ErrNoKey) {
			if err != nil {
				left = append(left, v)
			}
			continue // it vanished meanwhile; its next knock brings it back
		}
		if read != nil {
			v.failed = true
			e.retryLater(v.ID, false, fmt.Errorf("read accepted key: %w", read))
			continue
		}
		digest, _ := fleet.KeyDigest(text)
		if digest != v.Pending.Digest {
			v.failed = true
			wrong = append(wrong, v.ID)
			e.wrong[v.ID] = digest
			e.audit.WrongKey(v.ID, v.Pending.Digest, digest)
			continue
		}
		v.Accepted = decide.Key{Present: true, Digest: digest}
		e.audit.Accepted(v.ID, v.decision, digest)
		if at, err := fleet.ParseTime(v.listed); err == nil {
			e.audit.counters.Durations.Accepted(e.now().Sub(at))
		}
	}
	if len(wrong) > 0 {
		e.deleteWrong(ctx, wrong)
	}
	return left, err
}

// deleteWrong deletes keys that were accepted in another's place at once. One that
// is still there is deleted with those of terminated minions; see isWrong.
func (e *Engine) deleteWrong(ctx context.Context, ids []string) {
	if err := e.master.Delete(ctx, map[salt.State][]string{salt.Accepted: ids}); err != nil {
		e.log.Error("keys accepted in another's place are not deleted yet", "minions", len(ids), "err", err)
	}
	for _, id := range ids {
		e.queue.retry(id, false, e.now())
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
