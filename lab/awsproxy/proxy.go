// Package awsproxy is a proxy on 127.0.0.1 between Phoenix and an endpoint of AWS, or
// its emulator. It records each call, and can answer in the endpoint's place what no
// emulator does.
package awsproxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// maxBody is more than any request of Phoenix's; DynamoDB takes 16 MiB.
const maxBody = 16 << 20

// stopWithin bounds the end: a long poll may hang on for 20 s, and nobody waits.
const stopWithin = time.Second

// Proxy is one proxy.
type Proxy struct {
	URL string // what stands in the endpoint's place

	mu     sync.Mutex
	calls  []Call
	needs  map[string]bool
	answer func(Call) *Answer
	ahead  time.Duration
}

// Answer is what the proxy answers in the endpoint's stead.
type Answer struct {
	Status int    // of HTTP
	Code   string // AWS's error code; empty: success
	Body   string // of a success; empty: the protocol's least
}

// Start runs a proxy to an endpoint until the test ends.
func Start(t testing.TB, endpoint string) *Proxy {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatalf("proxy of %s: %v", endpoint, err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("proxy of %s: %v", endpoint, err)
	}
	p := &Proxy{URL: "http://" + listener.Addr().String(), needs: map[string]bool{}}
	proxy := &httputil.ReverseProxy{
		// The host stays the caller's, so that URLs which the endpoint makes (those
		// of queues) lead back here.
		Rewrite:        func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host },
		ModifyResponse: p.heard,
		// A killed bridge leaves its long poll behind: no fault of anybody's.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	server := &http.Server{Handler: p.handler(proxy), ReadHeaderTimeout: time.Minute, ErrorLog: proxy.ErrorLog}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("proxy of %s: %v", endpoint, err)
		}
	})
	return p
}

type callKey struct{}

func (p *Proxy) handler(proxy http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err != nil {
			return // the caller is gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		c := read(r, body)
		p.mu.Lock()
		p.calls = append(p.calls, c)
		for _, n := range c.needs(r) {
			p.needs[n] = true
		}
		answer := p.answer
		p.mu.Unlock()
		if answer != nil {
			if a := answer(c); a != nil {
				c.write(w, *a)
				return
			}
		}
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
	})
}

// heard notes the permissions that an answer tells of, and dates it as SetClock says.
func (p *Proxy) heard(r *http.Response) error {
	c, _ := r.Request.Context().Value(callKey{}).(Call)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ahead != 0 {
		r.Header.Set("Date", time.Now().Add(p.ahead).UTC().Format(http.TimeFormat))
	}
	for _, n := range c.needsByAnswer(r) {
		p.needs[n] = true
	}
	return nil
}

// Answer lets f answer calls in the endpoint's stead; those for which it gives
// nil go on to the endpoint. A nil f answers none.
func (p *Proxy) Answer(f func(Call) *Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = f
}

// SetClock dates the endpoint's answers by a clock that is that much ahead of this
// machine's; 0: as the endpoint dates them.
func (p *Proxy) SetClock(ahead time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ahead = ahead
}

// Calls returns the calls so far, in the order in which they came.
func (p *Proxy) Calls() []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Call(nil), p.calls...)
}

// Count says how often an action was called: "sqs:ReceiveMessage".
func (p *Proxy) Count(action string) (n int) {
	for _, c := range p.Calls() {
		if c.Service+":"+c.Action == action {
			n++
		}
	}
	return n
}
