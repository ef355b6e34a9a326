// Package ui serves a page that shows the fleet to people with a browser. It changes
// nothing: what it shows comes from the operations of package admin. All of it, style
// and script included, comes from the bridge, so that it works without the Internet,
// and the browser is instructed to load nothing else.
//
// Whoever reaches the address sees it: ids, masters, and the decisions of the audit
// trail. It is off unless ui is set.
package ui

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"phoenix/bridge/admin"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

const (
	// maxLive is how many pages are kept up to date at a time: of the 32 connections that
	// http_listen serves, the others are for metrics and health.
	maxLive = 12
	// writeWithin bounds each write of a page, and of an update of it.
	writeWithin = 10 * time.Second
	// idleFor: an update of nothing keeps proxies from closing the connection.
	idleFor = 15 * time.Second
	// explainLines is how many decisions a minion's page shows.
	explainLines = 30
)

//go:embed assets
var assets embed.FS

// server serves the pages.
type server struct {
	reader *reader
	every  time.Duration
	live   chan struct{}
	log    *slog.Logger
	pages  *template.Template
}

// Handler returns the handler of /ui/ for the fleet of an Admin.
func Handler(a admin.Admin, log *slog.Logger) http.Handler {
	every := freshFor
	if a.Config.OnDynamoDB() {
		every = freshForDynamoDB
	}
	return newServer(a, every, log)
}

func newServer(a admin.Admin, every time.Duration, log *slog.Logger) http.Handler {
	s := &server{reader: &reader{admin: a, every: every, now: time.Now}, every: every,
		live: make(chan struct{}, maxLive), log: log}
	s.pages = template.Must(template.New("").Funcs(template.FuncMap{
		"clock": func(t time.Time) string { return t.Local().Format("15:04:05") },
		"when":  admin.Clock,
		"stamp": func(text string) string {
			if at, err := fleet.ParseTime(text); err == nil {
				return admin.Clock(at)
			}
			return text
		},
		// The reader's machine may be in another zone.
		"zone": func() string { name, _ := time.Now().Zone(); return name },
		"join": func(list []string) string {
			return digest.ReplaceAllStringFunc(strings.Join(list, " "),
				func(key string) string { return key[:12] + "…" })
		},
		"mean": func(p decide.Phase) string { return Meaning[p] },
	}).ParseFS(assets, "assets/*.html"))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ui/{$}", s.page)
	mux.HandleFunc("GET /ui/live", s.watch)
	mux.HandleFunc("GET /ui/grid",
		func(w http.ResponseWriter, r *http.Request) { s.render(w, "grid", s.reader.read(r.Context())) })
	mux.HandleFunc("GET /ui/minion", s.minion)
	for name, kind := range map[string]string{"app.js": "text/javascript; charset=utf-8",
		"style.css": "text/css; charset=utf-8"} {
		text, err := assets.ReadFile("assets/" + name)
		if err != nil {
			panic(err) // it is in the program
		}
		mux.HandleFunc("GET /ui/"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write(text)
		})
	}
	return guarded(mux)
}

// digest is that of a key; twelve digits are enough for people to distinguish keys.
var digest = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// Meaning says what each phase of a minion means, for people.
var Meaning = map[decide.Phase]string{
	decide.PhaseForeign:    "accepted here, not in the fleet: never touched",
	decide.PhaseUnlisted:   "asks to be accepted, not in the fleet: left pending",
	decide.PhaseAdopted:    "its key was accepted before Phoenix managed it: no highstate is run",
	decide.PhaseTerminated: "its instance is gone; so are its keys",
	decide.PhaseListed:     "in the fleet, has not asked to be accepted yet",
	decide.PhaseAccepted:   "its key is bound; its highstate has not begun",
	decide.PhaseRunning:    "its highstate runs",
	decide.PhaseDone:       "its highstate succeeded",
	decide.PhaseFailed:     "its last highstate failed",
	decide.PhaseUnreadable: "its row cannot be decoded: it is skipped",
}

// guarded instructs the browser to load nothing but what comes from here, and to show the
// page in no other.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy",
			"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if !local(r.Host) { // else a name of a hostile site that leads here (DNS rebinding)
			http.Error(w, "ask by the address, by localhost or by the name of this machine", http.StatusForbidden)
			return
		}
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" &&
			r.Header.Get("Sec-Fetch-Mode") != "navigate" {
			http.Error(w, "not for other sites", http.StatusForbidden)
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(readWithin + writeWithin))
		next.ServeHTTP(w, r)
	})
}

// local reports whether a Host header is an address, localhost or this machine's name,
// with or without its domain.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	own, err := os.Hostname()
	own, _, _ = strings.Cut(strings.ToLower(own), ".")
	first, _, _ := strings.Cut(host, ".")
	return net.ParseIP(host) != nil || host == "localhost" || err == nil && own != "" && first == own
}

// render writes a page whole or not at all.
func (s *server) render(w http.ResponseWriter, name string, data any) {
	var text bytes.Buffer
	if err := s.pages.ExecuteTemplate(&text, name, data); err != nil {
		s.log.Error("page not rendered", "page", name, "err", err)
		http.Error(w, "not rendered: see the log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = text.WriteTo(w) // else whoever asked has gone
}

func (s *server) page(w http.ResponseWriter, r *http.Request) {
	s.render(w, "page", s.reader.read(r.Context()))
}

// minion is what explain says of one.
func (s *server) minion(w http.ResponseWriter, r *http.Request) {
	lines := explainLines
	ctx, cancel := context.WithTimeout(r.Context(), readWithin)
	defer cancel()
	x, err := s.reader.admin.Explain(ctx, admin.ExplainMinion{ID: r.URL.Query().Get("id"), Lines: &lines})
	if err != nil {
		code := http.StatusBadGateway
		if errors.Is(err, config.ErrInvalid) || errors.Is(err, fleet.ErrNotFound) {
			code = http.StatusNotFound
		}
		http.Error(w, admin.OneLine(err), code)
		return
	}
	s.render(w, "minion", x)
}

// update is what changes on a page that is open.
type update struct {
	Parts map[string]string       `json:"parts,omitempty"` // HTML by the id of its element
	Cells map[string]decide.Phase `json:"cells,omitempty"`
	Grid  bool                    `json:"grid,omitempty"` // minions came or went: fetch the grid
}

// watch sends what changes, as server-sent events, until the browser goes.
func (s *server) watch(w http.ResponseWriter, r *http.Request) {
	select {
	case s.live <- struct{}{}:
		defer func() { <-s.live }()
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	control := http.NewResponseController(w)
	// The server's limit of a request's time is for requests that end.
	_ = control.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(text string) error {
		_ = control.SetWriteDeadline(time.Now().Add(writeWithin))
		if _, err := w.Write([]byte(text)); err != nil {
			return err
		}
		return control.Flush()
	}
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	parts, cells := map[string]string{}, map[string]decide.Phase{}
	shown, _ := strconv.ParseInt(r.URL.Query().Get("at"), 10, 64)
	for sent := (time.Time{}); ; {
		now := s.reader.read(r.Context())
		first := len(cells) == 0
		u, err := s.changes(now, parts, cells)
		if first { // the page may show an older grid, or none of ours
			u.Grid = now.At.UnixNano() != shown
		}
		if err != nil {
			s.log.Error("page not rendered", "err", err)
			return
		}
		switch {
		case len(u.Parts) > 0 || len(u.Cells) > 0 || u.Grid:
			text, err := json.Marshal(u)
			if err != nil || send(fmt.Sprintf("data: %s\n\n", text)) != nil {
				return
			}
			sent = time.Now()
		case time.Since(sent) > idleFor:
			if send(": nothing new\n\n") != nil {
				return
			}
			sent = time.Now()
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// changes returns what is other than on a page that has parts and cells, and brings
// both up to date.
func (s *server) changes(now *snapshot, parts map[string]string, cells map[string]decide.Phase) (update, error) {
	u := update{Parts: map[string]string{}, Cells: map[string]decide.Phase{}}
	for _, part := range []string{"head", "phases", "masters", "attention", "timeline"} {
		var text bytes.Buffer
		if err := s.pages.ExecuteTemplate(&text, part, now); err != nil {
			return u, err
		}
		if html := text.String(); parts[part] != html {
			parts[part], u.Parts[part] = html, html
		}
	}
	seen := make(map[string]bool, len(now.Cells))
	for _, c := range now.Cells {
		seen[c.ID] = true
		if old, known := cells[c.ID]; !known {
			u.Grid = true
		} else if old != c.Phase {
			u.Cells[c.ID] = c.Phase
		}
		cells[c.ID] = c.Phase
	}
	for id := range cells {
		if !seen[id] {
			delete(cells, id)
			u.Grid = true
		}
	}
	return u, nil
}
