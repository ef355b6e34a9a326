package ui

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/lab"
)

// In a real browser the page brings itself up to date: the script runs under the policy
// that the page sends, and the picture of a minion changes with its row.
func TestInBrowser(t *testing.T) {
	s := newSite(t)
	s.fill(60)
	change := sync.OnceFunc(func() {
		s.apply(fleet.Claim{InstanceID: "web-8", Owner: "salt-1", Incarnation: "1", JID: "20261126030000000000",
			Attempt: 1}, fleet.Add{InstanceID: "web-61"})
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
			_, _ = io.WriteString(w, strings.Replace(page, "</head>",
				`<script src="slow.js" async></script></head>`, 1))
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
	dom := lab.Chromium(t, "--dump-dom", front.URL+"/ui/")
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
			lab.Chromium(t, append(flags, "--screenshot="+path, s.URL+"/ui/")...)
			if info, err := os.Stat(path); err != nil || info.Size() < 20_000 {
				t.Errorf("%s: %v, %v", path, info, err)
			}
			if n == 400 {
				lab.Chromium(t, append(flags, "--window-size=1000,700",
					"--screenshot="+filepath.Join(dir, "ui-minion-"+scheme+".png"), s.URL+"/ui/minion?id=web-9")...)
			}
		}
	}
}
