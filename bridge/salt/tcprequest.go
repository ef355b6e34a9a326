package salt

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

const (
	// tcpDialWithin bounds the connecting: a worker of the master that is up accepts
	// within milliseconds.
	tcpDialWithin = 5 * time.Second
	// tcpEnvelope is what an answer has around its body.
	tcpEnvelope = 1 << 10
	// tcpFirst is the first buffer of an answer. It grows with what has arrived.
	tcpFirst = 16 << 10
)

// tcpRequest sends one request over Salt's transport tcp, and returns the answer of at
// most limit bytes. Request and answer are a msgpack map {"head": {"mid": ID}, "body":
// BODY} each, without a length before it; the answer repeats the head (3006 to 3008,
// salt/transport/tcp.py and frame.py). BODY is the map itself, where transport zeromq has
// its encoding. It ends when ctx does, and sets no time for the answer itself.
func tcpRequest(ctx context.Context, endpoint string, payload []byte, limit int) ([]byte, error) {
	answer, err := overTCP(ctx, strings.TrimPrefix(endpoint, "tcp://"), payload, limit)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", endpoint, err)
	}
	return answer, nil
}

func overTCP(ctx context.Context, address string, payload []byte, limit int) ([]byte, error) {
	conn, err := (&net.Dialer{Timeout: tcpDialWithin}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })() // ends reads and writes
	mid := rand.Text()
	message, err := msgpack.Marshal(map[string]any{"head": map[string]any{"mid": mid},
		"body": msgpack.RawMessage(payload)})
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(message); err != nil {
		return nil, err
	}
	raw, err := readValue(conn, limit+tcpEnvelope)
	if err != nil {
		return nil, err
	}
	head, err := event.Field(raw, "head")
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if got, err := event.Field(head, "mid"); err != nil || string(event.Bytes(got)) != mid {
		return nil, errors.New("answer is that of another request")
	}
	return event.Field(raw, "body")
}

// readValue reads one msgpack value of at most limit bytes.
func readValue(r io.Reader, limit int) ([]byte, error) {
	buf := make([]byte, 0, tcpFirst)
	scanner := event.NewScanner(limit)
	for {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n > 0 {
			size, scanErr := scanner.Next(buf)
			if scanErr == nil {
				return buf[:size], nil
			}
			if scanErr != event.ErrShort {
				return nil, scanErr
			}
		}
		if errors.Is(err, io.EOF) { // the master closes what it does not understand
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
}
