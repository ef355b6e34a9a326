package relay

import (
	"bufio"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// dialWithin and shakeWithin bound a connection until TLS stands.
	dialWithin      = 3 * time.Second
	handshakeWithin = 5 * time.Second
	// pingEvery, silentFor: a peer that says nothing for so long is given up. It
	// answers each ping, whatever else it does.
	pingEvery = 3 * time.Second
	silentFor = 10 * time.Second
	// writeWithin: a peer that takes nothing for so long is given up.
	writeWithin = 5 * time.Second
)

// link is one connection on which both sides said who they are.
type link struct {
	conn  *tls.Conn
	r     *bufio.Reader
	peer  message // its hello
	clock *clock
	now   func() time.Time

	mu sync.Mutex // of writes

	seenMu  sync.Mutex
	seen    int64 // the At of the last message
	arrived time.Time
}

// handshake opens a connection: TLS, then a hello from each side. The side that was
// dialled speaks first, so that it can measure how long the answer took.
func handshake(ctx context.Context, conn net.Conn, config *tls.Config, dialled bool, hello message,
	now func() time.Time) (*link, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(handshakeWithin)); err != nil {
		return nil, err
	}
	secure := tls.Client(conn, config)
	if dialled {
		secure = tls.Server(conn, config)
	}
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	l := &link{conn: secure, r: bufio.NewReader(secure), clock: newClock(now()), now: now}
	var err error
	if dialled {
		err = l.sendHello(hello)
	}
	if err == nil {
		err = l.readHello()
	}
	if err == nil && !dialled {
		err = l.sendHello(hello)
	}
	if err != nil {
		return nil, err
	}
	if _, err := version(l.peer); err != nil {
		return nil, err
	}
	return l, secure.SetDeadline(time.Time{})
}

func (l *link) sendHello(hello message) error {
	hello.Kind, hello.Oldest, hello.Newest = kindHello, oldestVersion, newestVersion
	return l.send(hello)
}

func (l *link) readHello() error {
	asked := l.now()
	raw, err := readFrame(l.r, maxHello)
	if err != nil {
		return err
	}
	m, err := decode(raw)
	if err != nil {
		return err
	}
	if m.Kind != kindHello || m.Instance == "" || len(m.Instance) > maxName || len(m.Incarnation) > maxName {
		return fmt.Errorf("%w: no hello", errFrame)
	}
	now := l.now()
	if took := now.Sub(asked); took > helloWithin {
		return fmt.Errorf("the hello took %v, too long to know how late its jobs are", took.Round(time.Millisecond))
	}
	l.peer = m
	// For the side that speaks first this is the answer to its hello; the other one
	// counts from the end of TLS, when it began to wait.
	l.clock.observe(m.At, now, true)
	l.setSeen(m, now)
	return nil
}

// key is the digest of the masters' key, as it was when the connection was made: both
// ends have shown the same one.
func (l *link) key() string {
	certs := l.conn.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return ""
	}
	key, ok := certs[0].PublicKey.(*rsa.PublicKey)
	if !ok {
		return ""
	}
	digest, err := digestOf(key)
	if err != nil {
		return ""
	}
	return digest
}

// maxName bounds the name of an instance.
const maxName = 255

// stamp sets a message's time.
func (l *link) stamp(m message) message {
	m.At = l.clock.at(l.now())
	return m
}

// send writes a message now.
func (l *link) send(m message) error { return l.write(l.stamp(m)) }

// write writes a message that has its time already.
func (l *link) write(m message) error {
	body, err := m.encode()
	if err != nil {
		return err
	}
	if len(body) > maxFrame {
		return fmt.Errorf("send %s: %d bytes are too many", m.Kind, len(body))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	_, err = l.conn.Write(appendFrame(make([]byte, 0, 4+len(body)), body))
	return err
}

// read returns the next message.
func (l *link) read() (message, error) {
	if err := l.conn.SetReadDeadline(time.Now().Add(silentFor)); err != nil {
		return message{}, err
	}
	raw, err := readFrame(l.r, maxFrame)
	if err != nil {
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			return message{}, fmt.Errorf("it said nothing for %v", silentFor)
		}
		return message{}, err
	}
	m, err := decode(raw)
	if err == nil {
		now := l.now()
		l.clock.observe(m.At, now, l.clock.answered(m.Seen, m.Held, now))
		l.setSeen(m, now)
	}
	return m, err
}

func (l *link) setSeen(m message, now time.Time) {
	l.seenMu.Lock()
	defer l.seenMu.Unlock()
	l.seen, l.arrived = m.At, now
}

// ping asks for a sign of life, and answers the last message.
func (l *link) ping() error {
	m := l.stamp(message{Kind: kindPing})
	l.seenMu.Lock()
	m.Seen, m.Held = l.seen, l.now().Sub(l.arrived).Milliseconds()
	l.seenMu.Unlock()
	return l.write(m)
}
