package ui

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/admin"
	"phoenix/bridge/audit"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
)

// site is a fleet in an SQLite file, beside a master that does not run, and its page.
type site struct {
	t     testing.TB
	store *sqlite.Store
	admin admin.Admin
	URL   string

	handler http.Handler
}

func newSite(t testing.TB) site {
	t.Helper()
	dir := t.TempDir()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Store, cfg.Socket, cfg.SaltConfig = "sqlite:"+filepath.Join(dir, "fleet.db"), filepath.Join(dir, "s"),
		filepath.Join(dir, "master")
	cfg.Audit.File, cfg.InstanceID, cfg.IDPattern = filepath.Join(dir, "audit.log"), "salt-1", config.IDPatternSQLite
	if err := os.WriteFile(cfg.SaltConfig, fmt.Appendf(nil, "user: %s\nid: salt-1\nroot_dir: %s\n", u.Username, dir),
		0o600); err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	s := site{t: t, store: store, admin: admin.Admin{Config: cfg, Store: store, By: "test"}}
	s.handler = newServer(s.admin, 50*time.Millisecond, slog.New(slog.DiscardHandler))
	server := httptest.NewServer(s.handler)
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// fill makes a fleet of n minions in all phases on three masters, one of which is stale.
func (s site) fill(n int) {
	s.t.Helper()
	var changes []fleet.Change
	for i := range n {
		id := fmt.Sprintf("web-%d", i+1)
		changes = append(changes, fleet.Add{InstanceID: id, Group: "web"})
		if i%29 != 3 {
			changes = append(changes, fleet.Bind{InstanceID: id, KeySHA256: fmt.Sprintf("%064x", i+1), PublicKey: "x"})
		}
	}
	s.apply(changes...)
	changes = nil
	for i := range n {
		id, owner := fmt.Sprintf("web-%d", i+1), fmt.Sprintf("salt-%d", i%2+1)
		if i%29 == 3 || i%29 == 7 {
			continue
		}
		jid := fmt.Sprintf("20261126020000%06d", i)
		changes = append(changes, fleet.Claim{InstanceID: id, Owner: owner, Incarnation: "1", JID: jid, Attempt: 1})
		if i%29 != 11 {
			finish := fleet.Finish{InstanceID: id, JID: jid, Outcome: fleet.Succeeded}
			if i%97 == 5 {
				finish.Outcome, finish.Retcode = fleet.Erred, 2
			}
			changes = append(changes, finish)
		}
	}
	s.apply(changes...)
	s.apply(fleet.Retire{InstanceID: "web-1"})
	for i, connected := range []int{n / 2, n / 3, 0} {
		_, err := s.store.Beat(s.t.Context(),
			fleet.Beat{InstanceID: fmt.Sprintf("salt-%d", i+1), IPAddr: fmt.Sprintf("10.0.%d.10", i), Incarnation: "1",
				Ready: i < 2, Connected: connected, Zone: fmt.Sprintf("eu-west-1%c", 'a'+i)})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	var lines bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&lines, nil))
	for i := range 12 {
		log.Info("key accepted", "minion", fmt.Sprintf("web-%d", i+20), "rule", "listed", "key",
			fmt.Sprintf("%064x", i+20))
	}
	log.Warn("pending key unlinked", "minion", "web-9", "rule", "other-key", "reason", "another key is bound to it")
	log.Info("key refused", "minion", "<script>alert(1)</script>", "rule", "id")
	if err := audit.Append(s.admin.Config.Audit.File, lines.Bytes(), audit.MaxFile); err != nil {
		s.t.Fatal(err)
	}
}

func (s site) apply(changes ...fleet.Change) {
	s.t.Helper()
	for len(changes) > 0 {
		batch := changes[:min(len(changes), 500)]
		changes = changes[len(batch):]
		results, err := s.store.Apply(s.t.Context(), batch)
		if err != nil {
			s.t.Fatal(err)
		}
		for i, r := range results {
			if r.Err != nil {
				s.t.Fatalf("%+v: %v", batch[i], r.Err)
			}
		}
	}
}

func (s site) get(path string, header ...string) (int, http.Header, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(text)
}

// The page shows masters, phases, each minion, what needs attention, and what happened;
// it lets the browser load nothing from elsewhere, and nothing hostile out.
func TestPage(t *testing.T) {
	s := newSite(t)
	s.fill(120)
	code, header, page := s.get("/ui/")
	if code != http.StatusOK || !strings.Contains(header.Get("Content-Security-Policy"),
		"default-src 'none'; script-src 'self'") {
		t.Fatalf("%d, %v", code, header)
	}
	for _, want := range []string{"119 minions, 3 masters", "salt-3", "not ready",
		`href="minion?id=web-2" title="web-2: done"`, "first highstate failed",
		"none answers on this machine", "pending key unlinked", "&lt;script&gt;alert(1)"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if strings.Contains(page, "<script>alert") || regexp.MustCompile(`(src|href)="(https?:)?//`).MatchString(page) {
		t.Error("the page leads out, or lets script in")
	}
	if n := strings.Count(page, `<a class="`); n != 119 {
		t.Errorf("the grid has %d minions", n)
	}
	if a, b := strings.Index(page, "title=\"web-9:"), strings.Index(page, "title=\"web-10:"); a < 0 || a > b {
		t.Error("web-10 comes before web-9")
	}
	for path, want := range map[string]string{"/ui/minion?id=web-9": "pending key unlinked",
		"/ui/style.css": "prefers-color-scheme", "/ui/app.js": "EventSource", "/ui/grid": "web-119: done"} {
		if code, _, text := s.get(path); code != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("%s: %d, no %q", path, code, want)
		}
	}
	for path, want := range map[string]int{"/ui/minion": http.StatusNotFound, "/ui/nothing": http.StatusNotFound} {
		if code, _, text := s.get(path); code != want {
			t.Errorf("%s: %d, %s", path, code, text)
		}
	}
	if code, _, _ := s.get("/ui/grid", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode",
		"cors"); code != http.StatusForbidden {
		t.Errorf("for another site: %d", code)
	}
}

// An open circuit breaker needs attention, with the command that closes it.
func TestPageShowsTheBreaker(t *testing.T) {
	s := newSite(t)
	b := fleet.Breaker{Version: 1, Opened: "2026-01-01T00:00:00.000Z",
		Reason: "the highstates of 2 of the last 3 minions failed"}
	if _, mine, err := fleet.BreakersOf(s.store).WriteBreaker(t.Context(), b); !mine || err != nil {
		t.Fatal(mine, err)
	}
	if _, _, page := s.get("/ui/"); !strings.Contains(page, b.Reason) ||
		!strings.Contains(page, "<code>phoenix highstate resume</code>") {
		t.Errorf("the page does not show it:\n%s", page)
	}
}

// Nothing of it changes anything: there is no request but GET.
func TestPageIsReadOnly(t *testing.T) {
	s := newSite(t)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		for _, path := range []string{"/ui/", "/ui/minion?id=web-1", "/ui/live"} {
			r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, answer.StatusCode)
			}
		}
	}
}

// events opens the stream of a page, and returns its updates.
func (s site) events() <-chan update {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL+"/ui/live?at=1", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { answer.Body.Close() })
	if answer.StatusCode != http.StatusOK {
		s.t.Fatalf("live: %s", answer.Status)
	}
	out := make(chan update, 100)
	go func() {
		defer close(out)
		lines := bufio.NewScanner(answer.Body)
		lines.Buffer(nil, 8<<20)
		for lines.Scan() {
			var u update
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok && json.Unmarshal([]byte(text), &u) == nil {
				out <- u
			}
		}
	}()
	return out
}

// A page that is open is told of what changes, and of nothing else.
func TestLive(t *testing.T) {
	s := newSite(t)
	s.fill(40)
	updates := s.events()
	first := <-updates
	if !first.Grid || len(first.Parts) != 5 {
		t.Fatalf("%+v", first)
	}
	until := func(what string, seen func(update) bool) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for {
			select {
			case u, ok := <-updates:
				if !ok {
					t.Fatalf("the stream ended before %s", what)
				}
				if seen(u) {
					return
				}
			case <-deadline:
				t.Fatalf("not told of %s", what)
			}
		}
	}
	s.apply(fleet.Claim{InstanceID: "web-8", Owner: "salt-1", Incarnation: "1",
		JID: "20261126030000000000", Attempt: 1})
	until("a highstate that runs", func(u update) bool {
		return len(u.Cells) == 1 && u.Cells["web-8"] == decide.PhaseRunning &&
			strings.Contains(u.Parts["phases"], "running")
	})
	s.apply(fleet.Add{InstanceID: "web-41"})
	until("a new minion", func(u update) bool { return u.Grid })
	if err := s.store.DrainMaster(t.Context(), "salt-2", true); err != nil {
		t.Fatal(err)
	}
	until("a master that drains", func(u update) bool {
		return strings.Contains(u.Parts["masters"],
			"draining") && !u.Grid
	})
	for range maxLive - 1 {
		s.events()
	}
	if code, header, _ := s.get("/ui/live"); code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("one page more than there may be: %d", code)
	}
	if code, _, _ := s.get("/ui/"); code != http.StatusOK {
		t.Errorf("then the page itself: %d", code)
	}
}

// A store that does not answer leaves the last picture, which says so.
func TestStoreAway(t *testing.T) {
	s := newSite(t)
	s.fill(30)
	s.get("/ui/")
	if err := os.Remove(strings.TrimPrefix(s.admin.Config.Store, "sqlite:")); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		code, _, page := s.get("/ui/")
		if code == http.StatusOK && strings.Contains(page, "not up to date: ") &&
			strings.Contains(page, "web-30: done") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d: %.300s", code, page)
		}
	}
}

// Ten thousand minions are read, rendered and sent in a second or two.
func TestTenThousand(t *testing.T) {
	s := newSite(t)
	s.fill(10_000)
	begun := time.Now()
	code, _, page := s.get("/ui/")
	t.Logf("%d KB in %v", len(page)>>10, time.Since(begun).Round(time.Millisecond))
	if n := strings.Count(page, `<a class="`); code != http.StatusOK || n != 9_999 || len(page) > 2<<20 {
		t.Errorf("%d, %d minions, %d bytes", code, n, len(page))
	}
}

// The row of a master without heartbeats is too old to say how many minions it serves.
func TestStaleMasterHasNoCount(t *testing.T) {
	now := time.Now()
	for want, beat := range map[string]time.Time{"5": now, "": now.Add(-time.Hour)} {
		row := fleet.Master{InstanceID: "salt-1", Status: fleet.Launch, Ready: true, Connected: 5,
			Modified: fleet.FormatTime(beat)}
		if m := new(snapshot).master(row, time.Minute, now, 0); m.Connected != want {
			t.Errorf("%+v, not %q", m, want)
		}
	}
}
