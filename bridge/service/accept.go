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
// answer, keys wait.
func (e *Engine) accept(ctx context.Context, views []*keyView, connected map[string]bool) {
	if len(views) == 0 {
		return
	}
	if e.ready(stageAccept) {
		err := e.acceptBatch(ctx, views)
		switch {
		case err == nil:
			e.ended(stageAccept, nil)
			return
		case ctx.Err() != nil:
		case errors.Is(err, salt.ErrRefused) && len(views) > 1:
			half := len(views) / 2
			e.accept(ctx, views[:half], connected)
			e.accept(ctx, views[half:], connected)
			return
		case errors.Is(err, salt.ErrRefused):
			views[0].failed = true
			e.failedLook(views[0].ID, connected[views[0].ID], err)
			return
		default:
			e.ended(stageAccept, err)
		}
	}
	for _, v := range views {
		v.failed = true
		e.waiting.postpone(v.ID, connected[v.ID], e.due(stageAccept, e.now()))
	}
}

// acceptBatch accepts pending keys in one call, then reads what was accepted:
// between our look and the master's, an impostor may have taken the place.
func (e *Engine) acceptBatch(ctx context.Context, views []*keyView) error {
	ids := make([]string, len(views))
	for i, v := range views {
		ids[i] = v.ID
	}
	// A call that ran out of time may have been carried out: look at each either way.
	called := e.master.Accept(ctx, ids)
	if called != nil && errors.Is(called, salt.ErrRefused) && len(views) > 1 {
		return fmt.Errorf("accept %d keys: %w", len(ids), called)
	}
	var wrong []string
	for _, v := range views {
		text, err := e.keys.Read(v.ID, salt.Accepted)
		if errors.Is(err, salt.ErrNoKey) {
			continue // it vanished meanwhile; its next knock brings it back
		}
		if err != nil {
			v.failed = true
			e.failedLook(v.ID, false, fmt.Errorf("read accepted key: %w", err))
			continue
		}
		digest, _ := fleet.KeyDigest(text)
		if digest != v.Pending.Digest {
			v.failed = true
			wrong = append(wrong, v.ID)
			e.audit.WrongKey(v.ID, v.Pending.Digest, digest)
			continue
		}
		v.Accepted = decide.Key{Present: true, Digest: digest}
		e.audit.Accepted(v.ID, v.decision, digest)
	}
	if len(wrong) > 0 {
		if err := e.deleteWrong(ctx, wrong); err != nil {
			return errors.Join(called, err)
		}
	}
	if called != nil {
		return fmt.Errorf("accept %d keys: %w", len(ids), called)
	}
	return nil
}

// deleteWrong deletes keys that were accepted in another's place, and checks that
// they are gone.
func (e *Engine) deleteWrong(ctx context.Context, ids []string) error {
	err := e.master.Delete(ctx, map[salt.State][]string{salt.Accepted: ids})
	for _, id := range ids {
		_, read := e.keys.Read(id, salt.Accepted)
		if !errors.Is(read, salt.ErrNoKey) {
			e.problem(BadKey, id, errors.New("a key that is not the one decided on was accepted, and is still there"))
		}
		e.waiting.again(id, false, e.now())
	}
	if err != nil {
		return fmt.Errorf("delete %d keys accepted in another's place: %w", len(ids), err)
	}
	return nil
}
