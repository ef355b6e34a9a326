// Package api is the bridge's Unix socket: HTTP and JSON for admins' commands on
// the same machine. It passes hints in and tells what is; it decides nothing.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Limits of one request: an admin's command sends ids, and asks for a status.
const (
	maxBody      = 4 << 20 // 20,000 ids of 200 bytes
	headerWithin = 5 * time.Second
	bodyWithin   = 10 * time.Second
	closeWithin  = 2 * time.Second
	socketMode   = 0o660 // root, and the master's user
)

// ErrInUse: another bridge answers on the socket.
var ErrInUse = errors.New("a bridge is running already")

// Bridge is what the socket speaks for.
type Bridge struct {
	Look   func(ids []string) // rows were changed: look again
	Status func() any
}

// Listen makes the socket. One that nobody answers on is left over from a bridge
// that was killed, and replaced.
func Listen(path string) (net.Listener, error) {
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
	if err := os.Chmod(path, socketMode); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen %s: %w", path, err)
	}
	return l, nil
}

// Serve answers on l until ctx ends; it closes l.
func Serve(ctx context.Context, l net.Listener, b Bridge) error {
	server := &http.Server{
		Handler:           handler(b),
		ReadHeaderTimeout: headerWithin,
		ReadTimeout:       bodyWithin,
		WriteTimeout:      bodyWithin,
		MaxHeaderBytes:    8 << 10,
	}
	stop := context.AfterFunc(ctx, func() {
		bounded, cancel := context.WithTimeout(context.Background(), closeWithin)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			_ = server.Close()
		}
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

func handler(b Bridge) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(b.Status())
	})
	mux.HandleFunc("POST /v1/look", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			IDs []string `json:"ids"`
		}
		dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&body); err != nil {
			http.Error(w, "read request: "+err.Error(), http.StatusBadRequest)
			return
		}
		b.Look(body.IDs)
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
