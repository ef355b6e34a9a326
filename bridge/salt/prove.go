package salt

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

// mark is the field of a ping by which its answer is known.
const mark = "phoenix"

// pingLimit bounds the answer to a ping, which has what was sent.
const pingLimit = 4 << 10

// Prove asks for something that a worker of the master must answer, and that
// neither changes nor logs anything: "ping", which gives the load back. It needs
// no root key (ClearFuncs.ping, salt/master.py of 3006.28, 3007.15 and 3008.3). What
// is sent in it is of a name of our own: 3006.9 and 3007.1 take a "nonce" out.
func (m *Master) Prove(ctx context.Context) error {
	nonce := rand.Text()
	payload, err := msgpack.Marshal(map[string]any{"enc": "clear", "version": 3,
		"load": map[string]any{"cmd": "ping", mark: nonce}})
	if err != nil {
		return err
	}
	raw, err := m.request(ctx, m.endpoint, payload, pingLimit)
	if err != nil {
		return fmt.Errorf("ping master: %w: %w", ErrUnreachable, err)
	}
	v, err := event.Any(raw)
	if err != nil {
		return fmt.Errorf("ping master: read answer: %w", err)
	}
	if load, ok := v.(map[string]any); !ok || load[mark] != nonce {
		return fmt.Errorf("ping master: %w: %.200v", ErrRefused, v)
	}
	return nil
}
