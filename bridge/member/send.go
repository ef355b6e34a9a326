package member

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

const (
	// sendWithin: as for a publish, an idle worker answers in milliseconds.
	sendWithin = 20 * time.Second
	// answerLimit: the answers are short.
	answerLimit = 64 << 10
)

var (
	// ErrRefused: the master read the request and did not take it.
	ErrRefused = errors.New("the master refused it")
	// ErrNotAll: the master did some of what was asked, or nothing: an exception ended
	// it. It answers "" then (AESFuncs.run_func), and nil after success.
	ErrNotAll = errors.New("the master did not do all of it")
)

// Returns are what minions that are elsewhere returned of one job: maps with return,
// retcode, success and what else the minion said, by the minions' ids.
type Returns struct {
	JID    string
	Values map[string]map[string]msgpack.RawMessage
}

// Return passes returns to the master as a syndic does, which is Salt's own way for
// those of minions that are not connected here: it fires salt/job/<jid>/ret/<id>,
// and writes the job cache, whichever it has (AESFuncs._syndic_return, alike in
// 3006.28, 3007.15 and 3008.3).
func (m *Member) Return(ctx context.Context, returns []Returns) error {
	list := make([]any, 0, len(returns))
	for _, r := range returns {
		list = append(list, map[string]any{"id": hidden + "syndic", "jid": r.JID, "return": r.Values})
	}
	if err := m.send(ctx, map[string]any{"cmd": "_syndic_return", "load": list}); err != nil {
		return fmt.Errorf("hand returns to the master: %w", err)
	}
	return nil
}

// Fire puts an event on the master's bus.
func (m *Member) Fire(ctx context.Context, tag string, data map[string]any) error {
	err := m.send(ctx, map[string]any{"cmd": "_minion_event",
		"events": []any{map[string]any{"tag": tag, "data": data}}})
	if err != nil {
		return fmt.Errorf("fire event %s: %w", tag, err)
	}
	return nil
}

// send sends one request, encrypted with the session's key. That is out of date
// after a day (publish_session) or a restart of the master: then once more. A
// request that was refused had no effect.
func (m *Member) send(ctx context.Context, load map[string]any) error {
	has := m.current()
	if has.session == nil {
		var err error
		if has, err = m.renew(ctx, has); err != nil {
			return err
		}
	}
	err := m.sendWith(ctx, has, load)
	if errors.Is(err, ErrRefused) {
		if has, err = m.renew(ctx, has); err != nil {
			return err
		}
		err = m.sendWith(ctx, has, load)
	}
	return err
}

func (m *Member) sendWith(ctx context.Context, k keys, load map[string]any) error {
	nonce := newNonce()
	load["id"], load["tok"], load["nonce"], load["ts"] = m.identity.id, m.identity.token, nonce, time.Now().Unix()
	plain, err := msgpack.Marshal(load)
	if err != nil {
		return err
	}
	payload, err := msgpack.Marshal(map[string]any{"enc": "aes", "version": 3, "id": m.identity.id,
		"load":     k.session.encrypt(plain),
		"enc_algo": encAlgo, "sig_algo": sigAlgo})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	answer, err := m.request(ctx, m.config.RetEndpoint, payload, answerLimit)
	if err != nil {
		return err
	}
	sealed := event.Bytes(answer)
	if sealed == nil {
		return fmt.Errorf("%w: %.100q", ErrRefused, answer)
	}
	plain, err = k.session.decrypt(sealed)
	if err != nil { // "bad load", in clear
		return fmt.Errorf("%w: %.100q", ErrRefused, sealed)
	}
	if len(plain) < len(nonce) || string(plain[:len(nonce)]) != nonce {
		return errors.New("the answer is to another question")
	}
	if body := event.Bytes(plain[len(nonce):]); body != nil && len(body) == 0 {
		return ErrNotAll
	}
	return nil
}
