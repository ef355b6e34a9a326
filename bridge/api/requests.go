package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// maxBody bounds a request: 20,000 ids of 200 bytes, or a return as large as
	// the bus lets through (max_event_size, 1 MiB) as JSON.
	maxBody = 4 << 20
	// decodings at a time: 4 MiB of JSON may take 100 MiB once it is decoded.
	decodings = 2
	// operationWithin bounds an operation, and the wait for others to end.
	operationWithin = 45 * time.Second
	// operations at a time: an answer may have 64 MiB.
	operations = 4
	// refusedEvery: refused requests are logged at most once a minute.
	refusedEvery = time.Minute
)

// Request asks for an operation of phoenix, as minions.add.
type Request struct {
	Operation string          `json:"operation"`
	Arguments json.RawMessage `json:"arguments,omitempty"` // a map, of the operation's own fields
}

// Answer is what an operation returned, and how it ended.
type Answer struct {
	Code   int             `json:"code"`            // the exit code of the same command
	Answer json.RawMessage `json:"answer"`          // null: it returned nothing
	Error  string          `json:"error,omitempty"` // one line
}

// hint is an event of the master's bus, as its reactor has it.
type hint struct {
	Tag  string         `json:"tag"`
	Data map[string]any `json:"data"`
}

type handler struct {
	b        Bridge
	requests *http.ServeMux
	decoding chan struct{} // as many as decode
	running  chan struct{} // as many as operations run

	mu       sync.Mutex
	refused  int // since the last line about it
	toldThen time.Time
}

func newHandler(b Bridge) *handler {
	h := &handler{b: b, requests: http.NewServeMux(),
		decoding: make(chan struct{}, decodings), running: make(chan struct{}, operations)}
	for pattern, serve := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /v1/status":     h.status,
		"GET /v1/jobs":       h.jobs,
		"GET /v1/runs":       h.runs,
		"POST /v1/look":      h.takeIDs(b.Invalidate),
		"POST /v1/hints":     h.hints,
		"POST /v1/operation": h.operation,
		"POST /v1/command":   h.command,
		"POST /v1/release":   h.release,
		"POST /v1/restore":   h.takeIDs(b.Restore),
	} {
		h.requests.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := serve(w, r); err != nil {
				http.Error(w, err.Error(), statusOf(err))
			}
		})
	}
	return h
}

// ServeHTTP turns away those who may not ask, and answers the others.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p := peerFrom(r); !p.allowed {
		h.tellRefused(p)
		http.Error(w, fmt.Sprintf("user %d may not ask the bridge (run it as root or as the master's user)", p.uid),
			http.StatusForbidden)
		return
	}
	h.requests.ServeHTTP(w, r)
}

func (h *handler) tellRefused(p peer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused++
	if now := time.Now(); now.Sub(h.toldThen) >= refusedEvery {
		h.b.Log.Warn("request refused", "uid", p.uid, "pid", p.pid, "times", h.refused)
		h.refused, h.toldThen = 0, now
	}
}

// failure is an error with its HTTP status.
type failure struct {
	code int
	error
}

func statusOf(err error) int {
	if f, ok := errors.AsType[failure](err); ok {
		return f.code
	}
	return http.StatusBadRequest
}

// read decodes the body of a request, and passes on what it said.
func (h *handler) read(w http.ResponseWriter, r *http.Request, into any, then func() error) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		code := http.StatusBadRequest
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			code = http.StatusRequestEntityTooLarge
		}
		return failure{code, fmt.Errorf("read request: %w", err)}
	}
	h.decoding <- struct{}{} // not before: a body may come slowly
	defer func() { <-h.decoding }()
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	dec.UseNumber() // a return code is no float
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if dec.More() {
		return errors.New("read request: more than one JSON value")
	}
	return then()
}

func reply(w http.ResponseWriter, answer any) error {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // else the client has gone
	return nil
}

// status answers with the first problems of each kind, and ?problems=all with all.
func (h *handler) status(w http.ResponseWriter, r *http.Request) error {
	return reply(w, h.b.Status(r.URL.Query().Get("problems") == "all"))
}

// jobs answers ?jid=JID with that job, and else with all.
func (h *handler) jobs(w http.ResponseWriter, r *http.Request) error {
	if h.b.Jobs == nil {
		return failure{http.StatusNotFound, errors.New("no relay runs here (relay.listen)")}
	}
	answer, err := h.b.Jobs(r.URL.Query().Get("jid"))
	if err != nil {
		return failure{http.StatusNotFound, err}
	}
	return reply(w, answer)
}

// runs answers ?minion=ID with the last state run of that minion, and else with a page
// of those that sort after ?after=ID.
func (h *handler) runs(w http.ResponseWriter, r *http.Request) error {
	if h.b.Runs == nil {
		return failure{http.StatusNotFound, errors.New("the bridge does not read the event bus (bus: off)")}
	}
	q := r.URL.Query()
	return reply(w, h.b.Runs(q.Get("minion"), q.Get("after")))
}

// takeIDs answers a request that hands ids to do.
func (h *handler) takeIDs(do func(ids []string)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		var body struct {
			IDs []string `json:"ids"`
		}
		return h.read(w, r, &body, func() error {
			do(body.IDs)
			w.WriteHeader(http.StatusNoContent)
			return nil
		})
	}
}

// hints accepts the valid hints, and reports the first invalid one.
func (h *handler) hints(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Hints []hint `json:"hints"`
	}
	return h.read(w, r, &body, func() error {
		var fault error
		for _, hint := range body.Hints {
			if err := h.b.Hint(hint.Tag, hint.Data); err != nil && fault == nil {
				fault = err
			}
		}
		if fault == nil {
			w.WriteHeader(http.StatusNoContent)
		}
		return fault
	})
}

// operation performs one of phoenix's operations.
func (h *handler) operation(w http.ResponseWriter, r *http.Request) error {
	var request Request
	if err := h.read(w, r, &request, func() error { return nil }); err != nil {
		return err
	}
	return h.operate(w, r, request)
}

// command is operation for a request that is written as a command line. Runners
// of phoenix 0.1 send it: they may be older than the bridge after an upgrade of the
// package, and where they were copied into a file server's _runners.
func (h *handler) command(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Args []string `json:"args"`
	}
	if err := h.read(w, r, &body, func() error { return nil }); err != nil {
		return err
	}
	request, err := h.b.Translate(body.Args)
	if err != nil {
		return err
	}
	return h.operate(w, r, request)
}

func (h *handler) operate(w http.ResponseWriter, r *http.Request, request Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), operationWithin)
	defer cancel()
	select {
	case h.running <- struct{}{}:
		defer func() { <-h.running }()
	case <-ctx.Done():
		if r.Context().Err() != nil { // a client that closes its half counts as gone, and may still read
			return errors.New("run operation: the client hung up")
		}
		return failure{http.StatusServiceUnavailable,
			fmt.Errorf("run operation: the %d before it have not ended", operations)}
	}
	answer, err := h.b.Operate(ctx, request)
	if err != nil {
		return err
	}
	return reply(w, answer)
}

func (h *handler) release(w http.ResponseWriter, r *http.Request) error {
	ids, err := h.b.Release(r.Context())
	if err != nil {
		return failure{http.StatusConflict, err}
	}
	return reply(w, struct {
		IDs []string `json:"ids"`
	}{ids})
}
