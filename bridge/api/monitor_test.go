package api_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"phoenix/bridge/api"
)

// watched is a monitor that listens on a port of its own.
type watched struct {
	url   string
	sick  atomic.Bool
	asked atomic.Int32
}

func watch(t *testing.T) *watched {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{url: "http://" + l.Addr().String()}
	well := func(what string) func() error {
		return func() error {
			if w.sick.Load() {
				return errors.New(what)
			}
			return nil
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- api.ServeMonitor(ctx, l, api.Monitor{Alive: well("a loop hangs"), Ready: well("no bus"),
			Metrics: prometheus.GathererFunc(w.gather)})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// gather returns one metric: how often it was asked for.
func (w *watched) gather() ([]*dto.MetricFamily, error) {
	asked := float64(w.asked.Add(1))
	return []*dto.MetricFamily{{Name: new("asked_total"), Type: dto.MetricType_COUNTER.Enum(),
		Metric: []*dto.Metric{{Counter: &dto.Counter{Value: &asked}}}}}, nil
}

func (w *watched) get(t *testing.T, method, path string) (int, string, http.Header) {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), method, w.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text), response.Header
}

// A monitor tells metrics and health, and nothing else.
func TestMonitor(t *testing.T) {
	w := watch(t)
	for _, sick := range []bool{false, true} {
		w.sick.Store(sick)
		for path, says := range map[string]string{"/healthz": "a loop hangs\n", "/readyz": "no bus\n"} {
			want := http.StatusOK
			if !sick {
				says = "ok\n"
			} else {
				want = http.StatusServiceUnavailable
			}
			if status, text, _ := w.get(t, "GET", path); status != want || text != says {
				t.Errorf("%s: %d %q", path, status, text)
			}
		}
	}
	if status, text, header := w.get(t, "GET", "/metrics"); status != 200 ||
		text != "# TYPE asked_total counter\nasked_total 1\n" ||
		!strings.HasPrefix(header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("%d %q %v", status, text, header)
	}
	for _, r := range [][2]string{{"GET", "/"}, {"GET", "/v1/status"}, {"POST", "/v1/command"}, {"POST", "/metrics"},
		{"GET", "/debug/pprof/"}} {
		if status, _, _ := w.get(t, r[0], r[1]); status != http.StatusNotFound &&
			status != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: %d", r[0], r[1], status)
		}
	}
}

// G7: connections that say nothing, and more of them than there are places, and what
// is no request, keep a scraper waiting for some seconds only.
func TestG7_MonitorOutlastsSilenceAndGarbage(t *testing.T) {
	w := watch(t)
	address := strings.TrimPrefix(w.url, "http://")
	for i := range 100 {
		conn, err := net.DialTimeout("tcp", address, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "GET /met"); err != nil && i < 32 {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	if status, _, _ := w.get(t, "GET", "/metrics"); status != 200 {
		t.Errorf("status %d", status)
	}
	if took := time.Since(begun); took > 20*time.Second { // 100 of them, 32 at a time, 2 s each
		t.Errorf("answered after %v", took)
	}
	for _, request := range garbage {
		conn, err := net.DialTimeout("tcp", address, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, request) // it may have hung up already
		_ = conn.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(conn)
		_ = conn.Close()
		if text := string(answer); text != "" && !strings.HasPrefix(text, "HTTP/1.1 4") &&
			!strings.HasPrefix(text, "HTTP/1.1 505") {
			t.Errorf("%.40q: answered %.60q", request, text)
		}
	}
}
