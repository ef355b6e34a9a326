package bus

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// dialTimeout bounds the connecting: it ends in the kernel, at once, unless
	// the queue of the listening socket is full.
	dialTimeout = 5 * time.Second

	// watchInterval is how often the socket's file is looked at while connected.
	watchInterval = 2 * time.Second
)

// errReplaced is why a connection was given up that seemed well.
var errReplaced = errors.New("another master listens on the socket")

// UnreachableError is why the bus of a master could not be opened.
type UnreachableError struct {
	Where string // path or address
	Hint  string // what to do about it
	Err   error
}

func (e *UnreachableError) Error() string { return "open event bus " + e.Where + ": " + e.Err.Error() }
func (e *UnreachableError) Unwrap() error { return e.Err }

// dial connects to the bus.
func (b *Bus) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	network := "unix"
	if b.config.Path == "" {
		network = "tcp"
	}
	conn, err := dialer.DialContext(ctx, network, b.where)
	if err != nil {
		// The cause alone: *net.OpError says the address again.
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			err = op.Err
		}
		return nil, &UnreachableError{Where: b.where, Hint: hint(err), Err: err}
	}
	return conn, nil
}

func hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is salt-master running, and is this its sock_dir?"
	case errors.Is(err, fs.ErrPermission):
		return "run as the master's user, or from Salt 3007 on in its group"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "is salt-master running?"
	}
	return ""
}

// watch gives up conn if the socket's file becomes another than it was: a new
// master made it, and the process at the other end of conn is what an old one,
// killed, left behind. It will say nothing more, and never end. Such a process
// keeps the old file's inode, so that the new file's is another.
func (b *Bus) watch(ctx context.Context, giveUp context.CancelCauseFunc, was fs.FileInfo) {
	if was == nil { // TCP, or gone already
		return
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if is, err := os.Stat(b.config.Path); err == nil && !os.SameFile(was, is) {
			giveUp(errReplaced)
			return
		}
	}
}
