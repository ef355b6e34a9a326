// Package api is the bridge's Unix socket: HTTP and JSON, for Salt's runners and
// for commands on the same machine. It passes hints in, returns what is known, and
// has operations performed; it decides nothing. docs/api.md has the requests.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Limits of one connection, which is one request. Who connects on the same machine
// sends at once.
const (
	headerWithin = 2 * time.Second
	bodyWithin   = 10 * time.Second
	maxHeader    = 8 << 10
	closeWithin  = 2 * time.Second
	// answerWithin bounds the whole of a request, an operation and a client that reads
	// slowly included.
	answerWithin = operationWithin + 15*time.Second
)

// socketMode: for root, and for the group of the master's user.
const socketMode = 0o660

// ErrInUse: another bridge answers on the socket.
var ErrInUse = errors.New("a bridge is running already")

// Bridge is what the socket speaks for.
type Bridge struct {
	Invalidate func(ids []string) // rows were changed: read them again
	// Status returns what the bridge says of itself; all: with each problem, and not only
	// the first of each kind.
	Status func(all bool) any
	// Release retires the instances that the termination limit holds, and returns their ids.
	Release func(ctx context.Context) ([]string, error)
	// Restore writes known keys again that were deleted here by hand.
	Restore func(ids []string)
	// Hint takes in an event of the master's bus that somebody else read.
	Hint func(tag string, data map[string]any) error
	// Operate performs an operation of phoenix; its error says why it was not begun
	// at all. It is called by several goroutines.
	Operate func(ctx context.Context, r Request) (Answer, error)
	// Translate returns the operation that a command line of older runners asks for.
	Translate func(args []string) (Request, error)

	// Runs returns the last state runs of minions: of one, or of those that sort after an
	// id; nil: nobody listens to the event bus.
	Runs func(of, after string) any

	// Jobs returns the jobs that the relay carried, or one of them; nil: there is no relay.
	Jobs func(jid string) (any, error)

	Users []int // who may ask, besides root and the bridge's own user
	Log   *slog.Logger
}

// Listen makes the socket, for root and the group gid (-1: the bridge's own). One
// that nobody answers on is left over from a bridge that was killed, and replaced.
func Listen(path string, gid int) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listen %s: %w", path, ErrInUse)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", path, err)
	}
	// Whoever slips in before the mode is set is asked for its name all the same.
	if err := errors.Join(os.Lchown(path, -1, gid), os.Chmod(path, socketMode)); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen %s: %w", path, err)
	}
	return l, nil
}

// Serve answers on l until ctx ends; it closes l.
func Serve(ctx context.Context, l net.Listener, b Bridge) error {
	if b.Log == nil {
		b.Log = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		Handler:           newHandler(b),
		ReadHeaderTimeout: headerWithin,
		ReadTimeout:       bodyWithin,
		WriteTimeout:      answerWithin,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(b.Log.Handler(), slog.LevelError), // a handler's panic
	}
	server.SetKeepAlivesEnabled(false) // so no connection is idle
	stop := context.AfterFunc(ctx, func() {
		bounded, cancel := context.WithTimeout(context.Background(), closeWithin)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			_ = server.Close()
		}
	})
	defer stop()
	if err := server.Serve(newGate(l, b.Users)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}
