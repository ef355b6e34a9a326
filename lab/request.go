package lab

import (
	"context"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/zmtp"
)

const (
	// pingTimeout bounds the question whether a master serves: while it starts it
	// takes a request and never answers, so that another has to be sent.
	pingTimeout = 5 * time.Second
	// authTimeout bounds a request to a master that serves. It answers in 20 ms,
	// and on a machine that is busy with ten others in seconds.
	authTimeout = time.Minute
)

// maxAnswer bounds the answer: to a ping or an auth request it has under 2 KiB.
const maxAnswer = 64 << 10

// request sends one clear load to the master, as anybody may who reaches it,
// and returns the answer undecoded.
func (m *Master) request(timeout time.Duration, load map[string]any) ([]byte, error) {
	payload, err := msgpack.Marshal(map[string]any{"enc": "clear", "version": 3, "load": load})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return zmtp.Request(ctx, m.RetEndpoint(), payload, maxAnswer)
}

// RequestAuth asks the master to let id in with the public key pem, as anybody
// may who reaches it: a pending key appears, or, where another key is known for
// that id, a denied one.
func (m *Master) RequestAuth(id, pem string) {
	m.lab.tb.Helper()
	_, err := m.request(authTimeout,
		map[string]any{"cmd": "_auth", "id": id, "pub": pem, "nonce": "00000000000000000000000000000000"})
	if err != nil {
		m.lab.tb.Fatalf("auth request as %q: %v", id, err)
	}
}
