package salt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// acceptBatch is how many keys go into one call: one worker of the master (of
// five) is busy with it for a second.
const acceptBatch = 200

// acceptRounds is how often a batch is sent again because pending keys vanished
// from it. Each round leaves those out, so a second one is rare.
const acceptRounds = 5

// Accept moves the pending keys of ids to the accepted ones. An id without a
// pending key is passed over: look at the key store for what became of each, and
// of which key it is.
//
// Salt gives up at the first id that has none, and leaves the rest of the call
// undone: then the pending ones are listed, and those still there are sent again.
// 3008 would take a rejected key too.
func (m *Master) Accept(ctx context.Context, ids []string) error {
	if err := checkIDs(ids); err != nil {
		return fmt.Errorf("accept keys: %w", err)
	}
	for batch := range slices.Chunk(ids, acceptBatch) {
		if err := m.accept(ctx, batch); err != nil {
			return fmt.Errorf("accept keys of %s: %w", some(batch), err)
		}
	}
	return nil
}

func (m *Master) accept(ctx context.Context, ids []string) error {
	var refused error
	for range acceptRounds {
		if len(ids) == 0 {
			return nil
		}
		_, refused = m.wheel(ctx, "key.accept_dict", map[State][]string{Pending: ids})
		if refused == nil || errors.Is(refused, ErrUnreachable) {
			return refused // one that does not answer is not asked again at once
		}
		pending, err := m.pending(ctx)
		if err != nil {
			return fmt.Errorf("%w (then: %w)", refused, err)
		}
		left := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !pending[id] })
		if len(left) == len(ids) {
			return refused // it was not for want of a key
		}
		ids = left
	}
	return refused
}

// pending asks the master itself, which works with each of its key stores.
func (m *Master) pending(ctx context.Context) (map[string]bool, error) {
	byState, err := m.wheel(ctx, "key.list", "pre")
	if err != nil {
		return nil, err
	}
	pending := map[string]bool{}
	for _, id := range texts(byState[string(Pending)]) {
		pending[id] = true
	}
	return pending, nil
}

// Delete takes keys out of the key store, each from the state it is listed
// under. Salt passes over those that are not there. Each call, however many keys
// it is for, makes the master change its AES key within a minute, and each
// minion authenticate again: gather, and call rarely.
func (m *Master) Delete(ctx context.Context, keys map[State][]string) error {
	var all []string
	for _, ids := range keys {
		all = append(all, ids...)
	}
	if len(all) == 0 {
		return nil
	}
	if err := checkIDs(all); err != nil {
		return fmt.Errorf("delete keys: %w", err)
	}
	if _, err := m.wheel(ctx, "key.delete_dict", keys); err != nil {
		return fmt.Errorf("delete keys of %s: %w", some(all), err)
	}
	return nil
}

// wheel calls a function of the master, one of those that return ids by state.
// A call that broke off returns a text instead: 3006 and 3007 then say that it
// failed, 3008 calls that a success.
func (m *Master) wheel(ctx context.Context, fun string, match any) (map[string]any, error) {
	answer, err := m.call(ctx, wheelTimeout, map[string]any{"cmd": "wheel", "fun": fun, "match": match})
	if err != nil {
		return nil, err
	}
	data, _ := answer["data"].(map[string]any)
	ids, ok := data["return"].(map[string]any)
	if data["success"] != true || !ok {
		return nil, fmt.Errorf("%w: %s: %.200s", ErrRefused, fun, cause(fmt.Sprint(data["return"])))
	}
	return ids, nil
}

// cause is the line that says why: the last one of a Python traceback, and else
// the first.
func cause(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if strings.Contains(text, "Traceback") {
		return lines[len(lines)-1]
	}
	return lines[0]
}

// some names a few of many ids, for an error.
func some(ids []string) string {
	if len(ids) > 3 {
		return fmt.Sprintf("%v and %d more", ids[:3], len(ids)-3)
	}
	return fmt.Sprint(ids)
}
