package salt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// The other end stands for a master that breaks what it says; TestTransportTCP of package
// e2e has a real one.
func TestTCPRequest(t *testing.T) {
	payload, err := msgpack.Marshal(map[string]any{"enc": "clear"})
	if err != nil {
		t.Fatal(err)
	}
	answer := func(head, body any) []byte {
		raw, err := msgpack.Marshal(map[string]any{"head": head, "body": body})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, test := range map[string]struct {
		reply func(mid string) [][]byte // nil: none, and the connection stays
		good  bool
	}{
		"in two parts": {func(mid string) [][]byte {
			a := answer(map[string]any{"mid": mid}, "yes")
			return [][]byte{a[:5], a[5:]}
		}, true},
		"of another": {func(string) [][]byte { return [][]byte{answer(map[string]any{"mid": "x"}, "yes")} },
			false},
		"without a head": {func(string) [][]byte { return [][]byte{answer(nil, "yes")} }, false},
		"no msgpack":     {func(string) [][]byte { return [][]byte{{0xc1}} }, false},
		"over the limit": {func(mid string) [][]byte {
			return [][]byte{answer(map[string]any{"mid": mid},
				make([]byte, 9000))}
		}, false},
		"announced: 4 GiB": {func(string) [][]byte { return [][]byte{{0xdb, 0xff, 0xff, 0xff, 0xff}} }, false},
		"closed":           {func(string) [][]byte { return [][]byte{} }, false},
		"silent":           {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
			defer stop()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				var m struct {
					Head struct {
						MID string `msgpack:"mid"`
					} `msgpack:"head"`
					Body map[string]any `msgpack:"body"`
				}
				if err := msgpack.NewDecoder(conn).Decode(&m); err != nil || m.Body["enc"] != "clear" {
					t.Errorf("request is %+v, %v", m, err)
				}
				if test.reply == nil {
					stop()
					_, _ = io.Copy(io.Discard, conn)
					return
				}
				for _, part := range test.reply(m.Head.MID) {
					_, _ = conn.Write(part)
				}
			}()
			got, err := tcpRequest(ctx, "tcp://"+l.Addr().String(), payload, 4<<10)
			if want, _ := msgpack.Marshal("yes"); test.good != (err == nil) || test.good && !bytes.Equal(got, want) {
				t.Errorf("%x, %v", got, err)
			}
			if test.reply == nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
	}
}
