// Package tap stands between Phoenix and an endpoint of AWS, or what a test runs
// in its place: a proxy on 127.0.0.1 that notes each call, and may answer in the
// endpoint's stead what no emulator says.
package tap

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

// Tap is one proxy.
type Tap struct {
	URL string // what stands in the endpoint's place

	mu     sync.Mutex
	calls  []Call
	needs  map[string]bool
	answer func(Call) *Answer
}

// Answer is what the tap says in the endpoint's stead.
type Answer struct {
	Status int    // of HTTP
	Code   string // AWS's error code; empty: success
	Body   string // of a success; empty: the protocol's least
}

// Start runs a proxy to an endpoint until the test ends.
func Start(t testing.TB, endpoint string) *Tap {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatalf("tap %s: %v", endpoint, err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("tap %s: %v", endpoint, err)
	}
	tap := &Tap{URL: "http://" + listener.Addr().String(), needs: map[string]bool{}}
	proxy := &httputil.ReverseProxy{
		// The host stays the caller's, so that URLs which the endpoint makes (those
		// of queues) lead back here.
		Rewrite:        func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host },
		ModifyResponse: tap.heard,
		// A killed bridge leaves its long poll behind: no fault of anybody's.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	server := &http.Server{Handler: tap.handler(proxy), ReadHeaderTimeout: time.Minute, ErrorLog: proxy.ErrorLog}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("tap %s: %v", endpoint, err)
		}
	})
	return tap
}

type callKey struct{}

func (t *Tap) handler(proxy http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err != nil {
			return // the caller is gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		c := read(r, body)
		t.mu.Lock()
		t.calls = append(t.calls, c)
		for _, n := range c.needs(r) {
			t.needs[n] = true
		}
		answer := t.answer
		t.mu.Unlock()
		if answer != nil {
			if a := answer(c); a != nil {
				c.write(w, *a)
				return
			}
		}
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
	})
}

// heard notes the permissions that an answer tells of.
func (t *Tap) heard(r *http.Response) error {
	c, _ := r.Request.Context().Value(callKey{}).(Call)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range c.needsByAnswer(r) {
		t.needs[n] = true
	}
	return nil
}

// Answer lets f answer calls in the endpoint's stead; those for which it gives
// nil go on to the endpoint. A nil f answers none.
func (t *Tap) Answer(f func(Call) *Answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answer = f
}

// Calls gives the calls so far, in the order in which they came.
func (t *Tap) Calls() []Call {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Call(nil), t.calls...)
}

// Count says how often an action was called: "sqs:ReceiveMessage".
func (t *Tap) Count(action string) (n int) {
	for _, c := range t.Calls() {
		if c.Service+":"+c.Action == action {
			n++
		}
	}
	return n
}
