// Package zmtp is the little of ZeroMQ that a master asks for: one request and
// its answer, or one subscription, on one connection.
//
// It borrows only the wire format of github.com/go-zeromq/zmq4 (v0.17.0):
// zmq4.Conn over a guarded net.Conn, in the caller's goroutine. Its sockets are
// not used, since they lose what they send while not connected, deadlock or
// stay away for ever after a reconnect, and hang or crash on what a peer sends,
// in goroutines of their own, where no recover reaches. Here a connection
// serves once, and any error ends it.
package zmtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/go-zeromq/zmq4/security/null"
)

const (
	// dialTimeout bounds the connecting: a master that is up accepts in its
	// I/O thread, within milliseconds, however busy it is.
	dialTimeout = 5 * time.Second

	// handshakeTimeout bounds greeting and READY, for the same reason. A peer
	// that does not speak ZeroMQ may say nothing at all.
	handshakeTimeout = 5 * time.Second

	// handshakeLimit is for READY and its few short properties.
	handshakeLimit = 4 << 10
)

// ErrTooLarge is returned when a peer announces a message over the limit.
var ErrTooLarge = errors.New("message over the limit")

// Request sends payload to a REP or ROUTER socket at tcp://host:port or
// ipc://path and returns its answer, of at most limit bytes. It ends when ctx
// does, wherever it then is; it sets no time for the answer itself.
// After an error the request may or may not have been carried out.
func Request(ctx context.Context, endpoint string, payload []byte, limit int) ([]byte, error) {
	answer, err := request(ctx, endpoint, payload, limit)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", endpoint, err)
	}
	return answer, nil
}

func request(ctx context.Context, endpoint string, payload []byte, limit int) (answer []byte, err error) {
	conn, err := dial(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	err = converse(ctx, conn, zmq4.Req, limit, func(peer *zmq4.Conn) error {
		// The empty frame ends the (empty) return path of a REQ socket.
		if err := peer.SendMsg(zmq4.NewMsgFrom(nil, payload)); err != nil {
			return err
		}
		frames, err := receive(peer)
		if err != nil {
			return err
		}
		if len(frames) != 2 || len(frames[0]) != 0 {
			return fmt.Errorf("answer is no reply: %d frames", len(frames))
		}
		answer = frames[1]
		return nil
	})
	return answer, err
}

// Subscribe subscribes to everything that the PUB socket at the other end of
// conn sends, and calls fn with each message, until ctx ends, the connection
// fails or fn returns an error. It takes conn over, and closes it. Nothing may
// have been written to conn, nor read from it.
func Subscribe(ctx context.Context, conn net.Conn, limit int, fn func([]byte) error) error {
	err := converse(ctx, conn, zmq4.Sub, limit, func(peer *zmq4.Conn) error {
		if err := peer.SendMsg(zmq4.NewMsg([]byte{1})); err != nil { // 1: subscribe, to any prefix
			return err
		}
		for {
			frames, err := receive(peer)
			if err != nil {
				return err
			}
			// With zmq_filtering a topic goes before the message.
			if n := len(frames); n != 1 && n != 2 {
				return fmt.Errorf("message of %d frames", n)
			}
			if err := fn(frames[len(frames)-1]); err != nil {
				return err
			}
		}
	})
	return fmt.Errorf("subscribe: %w", err)
}

// dial connects to a ZeroMQ endpoint.
func dial(ctx context.Context, endpoint string) (net.Conn, error) {
	network, address, _ := strings.Cut(endpoint, "://")
	switch network {
	case "tcp":
	case "ipc":
		network = "unix"
	default:
		return nil, errors.New("endpoint is neither tcp://host:port nor ipc://path")
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	return dialer.DialContext(ctx, network, address)
}

// converse opens ZeroMQ on conn, has talk use it, and closes it. It ends with
// ctx, and gives ctx's error then.
func converse(ctx context.Context, conn net.Conn, kind zmq4.SocketType, limit int, talk func(*zmq4.Conn) error) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	peer, err := open(conn, kind, limit)
	if err == nil {
		err = talk(peer)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// open shakes hands.
func open(conn net.Conn, kind zmq4.SocketType, limit int) (peer *zmq4.Conn, err error) {
	defer func() {
		// zmq4 slices READY by lengths that the peer chose (protocol.go,
		// Property.Write). It runs in this goroutine, so a panic ends here.
		if fault := recover(); fault != nil {
			err = fmt.Errorf("shake hands: zmq4: %v", fault)
		}
	}()
	guarded := newGuard(conn, handshakeLimit)
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, err
	}
	peer, err = zmq4.Open(guarded, null.Security(), kind, nil, false, nil)
	if err != nil {
		return nil, fmt.Errorf("shake hands: %w", err)
	}
	guarded.limit = limit
	return peer, conn.SetDeadline(time.Time{})
}

// receive reads the next message, and passes over commands, such as PING.
func receive(peer *zmq4.Conn) ([][]byte, error) {
	for {
		msg, err := peer.RecvMsg()
		if err != nil {
			return nil, err
		}
		if msg.Type != zmq4.CmdMsg {
			return msg.Frames, nil
		}
	}
}
