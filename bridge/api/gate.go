package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
)

// maxConns bounds the connections of those who may ask: Salt's reactor has ten
// threads for runners (reactor_worker_threads), and each admin's command is one.
// Past that they wait in the kernel's queue.
const maxConns = 128

// maxStrangers bounds the connections of users without access, which only get an error. They take
// nobody else's place, and past that they are closed without a word.
const maxStrangers = 4

// peer is who is at the other end. The kernel says so: nobody can lie about it.
type peer struct {
	uid     uint32
	pid     int32
	allowed bool
}

// peerOf asks who called connect.
func peerOf(conn net.Conn) (peer, error) {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return peer{}, fmt.Errorf("ask for peer: a %T has none", conn)
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var cred *syscall.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) {
		cred, asked = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return peer{}, err
	}
	if asked != nil {
		return peer{}, fmt.Errorf("ask for peer: %w", asked)
	}
	return peer{uid: cred.Uid, pid: cred.Pid}, nil
}

// gate lets so many connections in at a time, and knows who each is.
type gate struct {
	net.Listener
	allowed   map[uint32]bool
	friends   chan struct{}
	strangers chan struct{}
	closed    chan struct{}
	close     sync.Once
}

func newGate(l net.Listener, users []int) *gate {
	g := &gate{Listener: l, allowed: map[uint32]bool{0: true, uint32(os.Geteuid()): true},
		friends: make(chan struct{}, maxConns), strangers: make(chan struct{}, maxStrangers),
		closed: make(chan struct{})}
	for _, uid := range users {
		g.allowed[uint32(uid)] = true
	}
	return g
}

// Accept returns the next connection there is a place for.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p, err := peerOf(conn)
		if err != nil { // it has gone already
			_ = conn.Close()
			continue
		}
		p.allowed = g.allowed[p.uid]
		if !p.allowed {
			select {
			case g.strangers <- struct{}{}:
				return newVisit(conn, p, g.strangers), nil
			default:
				_ = conn.Close()
				continue
			}
		}
		select {
		case g.friends <- struct{}{}:
			return newVisit(conn, p, g.friends), nil
		case <-g.closed:
			_ = conn.Close()
			return nil, net.ErrClosed
		}
	}
}

// Close also ends an Accept that waits for a place.
func (g *gate) Close() error {
	g.close.Do(func() { close(g.closed) })
	return g.Listener.Close()
}

// visit is a connection that has a place until it is closed.
type visit struct {
	net.Conn
	peer  peer
	leave func()
}

func newVisit(conn net.Conn, p peer, places chan struct{}) *visit {
	return &visit{conn, p, sync.OnceFunc(func() { <-places })}
}

func (v *visit) Close() error {
	defer v.leave()
	return v.Conn.Close()
}

type peerKey struct{}

// withPeer hands the peer to the requests of its connection.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, conn.(*visit).peer)
}

func peerFrom(r *http.Request) peer {
	p, _ := r.Context().Value(peerKey{}).(peer)
	return p
}
