package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/vmihailenco/msgpack/v5"
)

// requestTimeout bounds one request to a master: it answers in 20 ms, or, busy
// with its start, not within seconds.
const requestTimeout = 5 * time.Second

// request sends one clear load to the master, as anybody may who reaches it,
// and returns the answer undecoded.
func (m *Master) request(load map[string]any) ([]byte, error) {
	payload, err := msgpack.Marshal(map[string]any{"enc": "clear", "version": 3, "load": load})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	type reply struct {
		frame []byte
		err   error
	}
	got := make(chan reply, 1)
	go func() {
		socket := zmq4.NewReq(ctx, zmq4.WithDialerMaxRetries(1))
		defer socket.Close()
		if err := socket.Dial(m.RetEndpoint()); err != nil {
			got <- reply{err: err}
			return
		}
		if err := socket.Send(zmq4.NewMsg(payload)); err != nil {
			got <- reply{err: err}
			return
		}
		msg, err := socket.Recv()
		got <- reply{msg.Bytes(), err}
	}()
	select {
	case r := <-got:
		return r.frame, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("ask %s: no answer in %v", m.Name, requestTimeout)
	}
}

// KnockWithKey asks the master to let id in with the public key pem, as anybody
// may who reaches it: a pending key appears, or, where another key is known for
// that id, a denied one.
func (m *Master) KnockWithKey(id, pem string) {
	m.lab.tb.Helper()
	_, err := m.request(map[string]any{"cmd": "_auth", "id": id, "pub": pem, "nonce": "00000000000000000000000000000000"})
	if err != nil {
		m.lab.tb.Fatalf("knock as %q: %v", id, err)
	}
}
