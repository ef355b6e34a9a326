package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// browserWithin bounds one run of the browser: it starts in 2 s on a machine of its own.
const browserWithin = 2 * time.Minute

// chromium runs a headless Chromium with arguments.
func chromium(t *testing.T, args ...string) string {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("chromium is missing: apt-get install chromium")
	}
	ctx, cancel := context.WithTimeout(t.Context(), browserWithin)
	defer cancel()
	// As root there is no sandbox, and a container has a small /dev/shm.
	base := []string{"--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
		"--disable-background-networking", "--user-data-dir=" + t.TempDir()}
	cmd := exec.CommandContext(ctx, program, append(base, args...)...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("chromium %v: %v\n%.2000s", args, err, exit.Stderr)
	} else if err != nil {
		t.Fatalf("chromium %v: %v", args, err)
	}
	return string(out)
}

// In a real browser the page brings itself up to date: the script runs under the policy
// that the page sends, and the picture of a minion changes with its row.
func TestInBrowser(t *testing.T) {
	s := newSite(t)
	s.fill(60)
	change := sync.OnceFunc(func() {
		s.apply(fleet.Claim{InstanceID: "web-8", Owner: "salt-1", Incarnation: "1", JID: "20261126030000000000", Attempt: 1}, fleet.Add{InstanceID: "web-61"})
	})
	// The browser prints the page once it is loaded: a script that takes its time holds
	// that up, and nothing else.
	loaded := make(chan struct{})
	end := sync.OnceFunc(func() { close(loaded) })
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ui/slow.js":
			select {
			case <-loaded:
			case <-r.Context().Done():
			}
			w.Header().Set("Content-Type", "text/javascript")
		case "/ui/":
			_, header, page := s.get("/ui/")
			w.Header().Set("Content-Security-Policy", header.Get("Content-Security-Policy"))
			_, _ = io.WriteString(w, strings.Replace(page, "</head>", `<script src="slow.js" async></script></head>`, 1))
		case "/ui/live":
			time.AfterFunc(2*time.Second, change)
			time.AfterFunc(8*time.Second, end)
			fallthrough
		default:
			s.handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	t.Cleanup(front.CloseClientConnections)
	dom := chromium(t, "--dump-dom", front.URL+"/ui/")
	for _, want := range []string{`title="web-8: running"`, `title="web-61: listed"`, "first highstate failed"} {
		if !strings.Contains(dom, want) {
			t.Errorf("no %q in the page as the browser has it", want)
		}
	}
	if strings.Count(dom, "<script") != 2 {
		t.Error("there is another script on the page")
	}
}

// TestScreenshots makes the pictures of the documentation: PHOENIX_SCREENSHOTS names the
// folder. See "make screenshots".
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("PHOENIX_SCREENSHOTS")
	if dir == "" {
		t.Skip("PHOENIX_SCREENSHOTS is not set: make screenshots sets it")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{400, 10_000} {
		s := newSite(t)
		s.fill(n)
		for _, scheme := range []string{"light", "dark"} {
			flags := []string{"--window-size=1280,1500", "--timeout=4000"}
			if scheme == "dark" {
				flags = append(flags, "--blink-settings=preferredColorScheme=0")
			} else {
				flags = append(flags, "--blink-settings=preferredColorScheme=1")
			}
			path := filepath.Join(dir, fmt.Sprintf("ui-%d-%s.png", n, scheme))
			chromium(t, append(flags, "--screenshot="+path, s.URL+"/ui/")...)
			if info, err := os.Stat(path); err != nil || info.Size() < 20_000 {
				t.Errorf("%s: %v, %v", path, info, err)
			}
			if n == 400 {
				chromium(t, append(flags, "--window-size=1000,700", "--screenshot="+filepath.Join(dir, "ui-minion-"+scheme+".png"), s.URL+"/ui/minion?id=web-9")...)
			}
		}
	}
}
