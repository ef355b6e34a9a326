package swarm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A client's side of ZMTP 3.0 with the NULL mechanism, as far as a minion needs
// it. bridge/zmtp borrows a library whose connections are too large to have
// thousands of.

const (
	flagMore    = 1
	flagLong    = 2
	flagCommand = 4

	// maxFrame is above all that a master of the lab sends.
	maxFrame = 64 << 20
	// dialTimeout is for connection and handshake, on a machine that is busy with
	// the masters and thousands of minions.
	dialTimeout = 20 * time.Second
)

var errFrame = errors.New("broken ZMTP frame")

type wire struct {
	net.Conn
	r  *bufio.Reader
	mu sync.Mutex // guards writes: a ping comes from another goroutine
}

// dial connects and shakes hands as a socket of that type: REQ or SUB.
func dial(addr, kind string, buffer int) (*wire, error) {
	conn, err := net.DialTimeout("tcp", addr, dialTimeout)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, r: bufio.NewReaderSize(conn, buffer)}
	err = conn.SetDeadline(time.Now().Add(dialTimeout))
	if err == nil {
		err = w.shake(kind)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close() // it never served
		return nil, fmt.Errorf("shake hands with %s: %w", addr, err)
	}
	return w, nil
}

func (w *wire) shake(kind string) error {
	var greeting [64]byte
	greeting[0], greeting[9], greeting[10] = 0xff, 0x7f, 3
	copy(greeting[12:], "NULL")
	if _, err := w.Write(greeting[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(w.r, greeting[:]); err != nil {
		return err
	}
	if greeting[0] != 0xff || greeting[9] != 0x7f || greeting[10] < 3 || string(greeting[12:16]) != "NULL" {
		return fmt.Errorf("%w: greeting % x", errFrame, greeting)
	}
	ready := append([]byte("\x05READY"), property("Socket-Type", kind)...)
	if kind == "REQ" {
		ready = append(ready, property("Identity", "")...)
	}
	if err := w.send(frame(flagCommand, ready)); err != nil {
		return err
	}
	flags, n, err := w.header()
	if err != nil {
		return err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(w.r, body); err != nil {
		return err
	}
	if flags&flagCommand == 0 || len(body) < 6 || string(body[:6]) != "\x05READY" {
		return fmt.Errorf("%w: %q, not READY", errFrame, body)
	}
	return nil
}

func property(name, value string) []byte {
	out := append([]byte{byte(len(name))}, name...)
	out = binary.BigEndian.AppendUint32(out, uint32(len(value)))
	return append(out, value...)
}

// frame is one frame as it is sent.
func frame(flags byte, body []byte) []byte {
	out := make([]byte, 0, 9+len(body))
	if len(body) > 255 {
		out = binary.BigEndian.AppendUint64(append(out, flags|flagLong), uint64(len(body)))
	} else {
		out = append(out, flags, byte(len(body)))
	}
	return append(out, body...)
}

func (w *wire) send(frames []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.Write(frames)
	return err
}

func (w *wire) header() (flags byte, n int, err error) {
	if flags, err = w.r.ReadByte(); err != nil {
		return 0, 0, err
	}
	if flags&^(flagMore|flagLong|flagCommand) != 0 {
		return 0, 0, errFrame
	}
	if flags&flagLong == 0 {
		short, err := w.r.ReadByte()
		return flags, int(short), err
	}
	var long [8]byte
	if _, err = io.ReadFull(w.r, long[:]); err != nil {
		return 0, 0, err
	}
	size := binary.BigEndian.Uint64(long[:])
	if size > maxFrame {
		return 0, 0, fmt.Errorf("%w: %d bytes", errFrame, size)
	}
	return flags, int(size), nil
}

// message reads the last frame of the next message. Commands are answered on the
// way; heard is told whenever something came, if it is not nil.
func (w *wire) message(heard func()) ([]byte, error) {
	for {
		flags, n, err := w.header()
		if err != nil {
			return nil, err
		}
		if heard != nil {
			heard()
		}
		if flags&flagCommand == 0 && flags&flagMore != 0 {
			if _, err := w.r.Discard(n); err != nil {
				return nil, err
			}
			continue
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(w.r, body); err != nil {
			return nil, err
		}
		if flags&flagCommand == 0 {
			return body, nil
		}
		if n >= 7 && string(body[:5]) == "\x04PING" {
			if err := w.send(frame(flagCommand, append([]byte("\x04PONG"), body[7:]...))); err != nil {
				return nil, err
			}
		}
	}
}

// ping asks for a sign of life.
func (w *wire) ping() error { return w.send(frame(flagCommand, []byte("\x04PING\x00\x00"))) }
