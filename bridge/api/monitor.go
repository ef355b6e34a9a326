package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Limits of what watches the bridge over TCP. A scraper and a load balancer are a
// few connections, each of one request.
const (
	maxWatchers  = 32
	watchWithin  = 5 * time.Second // a request, and its answer
	maxWatchHead = 4 << 10
)

// Monitor is what a bridge answers to everybody: nothing secret, and nothing that
// changes anything. Each is called by any number of goroutines.
type Monitor struct {
	Metrics prometheus.Gatherer
	Alive   func() error // why not
	Ready   func() error // why not
	Pages   http.Handler // of /ui/; nil: none
	Log     *slog.Logger
}

// ServeMonitor answers on a TCP address until ctx ends: /metrics, /healthz and
// /readyz. It closes l.
func ServeMonitor(ctx context.Context, l net.Listener, m Monitor) error {
	if m.Log == nil {
		m.Log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.Metrics, promhttp.HandlerOpts{}))
	for path, well := range map[string]func() error{"GET /healthz": m.Alive, "GET /readyz": m.Ready} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			if err := well(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			_, _ = io.WriteString(w, "ok\n")
		})
	}
	if m.Pages != nil {
		mux.Handle("/ui/", m.Pages)
		mux.Handle("GET /{$}", http.RedirectHandler("/ui/", http.StatusFound))
	}
	server := &http.Server{
		Handler:           mux,
		BaseContext:       func(net.Listener) context.Context { return ctx }, // a page that is open ends with it
		ReadHeaderTimeout: headerWithin,
		ReadTimeout:       watchWithin,
		WriteTimeout:      watchWithin,
		MaxHeaderBytes:    maxWatchHead,
		ErrorLog:          slog.NewLogLogger(m.Log.Handler(), slog.LevelDebug), // anybody can make it speak
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
	if err := server.Serve(netutil.LimitListener(l, maxWatchers)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}
