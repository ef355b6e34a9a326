package cli

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/api"
	"phoenix/bridge/audit"
	"phoenix/bridge/fleet"
	"phoenix/bridge/service"
	"phoenix/lab"
)

// TestScreenshots makes the picture of status --watch in the documentation, of a terminal
// of the kernel's: PHOENIX_SCREENSHOTS names the folder. See "make screenshots".
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("PHOENIX_SCREENSHOTS")
	if dir == "" {
		t.Skip("PHOENIX_SCREENSHOTS is not set: make screenshots sets it")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := newAsker(t)
	a.beat("salt-1", true, 21)
	a.beat("salt-2", true, 19)
	var decisions bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&decisions, nil))
	const minions, failed, running = 40, 8, 4
	for i := range minions {
		id := fmt.Sprintf("web-%d", i+1)
		a.apply(fleet.Add{InstanceID: id}, fleet.Bind{InstanceID: id, KeySHA256: strings.Repeat("a", 64)},
			fleet.Claim{InstanceID: id, Owner: "salt-1", JID: "20260101000000000001", Attempt: 1})
		log.Info("key accepted", "minion", id, "rule", "first-knock")
	}
	for i := range minions - running {
		id, outcome, retcode := fmt.Sprintf("web-%d", i+1), fleet.Succeeded, 0
		if i+1 == failed {
			outcome, retcode = fleet.Erred, 2
		}
		a.apply(fleet.Finish{InstanceID: id, JID: "20260101000000000001", Outcome: outcome, Retcode: retcode})
		log.Info("highstate "+string(outcome), "minion", id, "retcode", retcode)
	}
	if err := audit.Append(filepath.Join(a.dir, "audit.log"), decisions.Bytes(), audit.MaxFile); err != nil {
		t.Fatal(err)
	}
	l, err := api.Listen(filepath.Join(a.dir, "s"), -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- api.Serve(ctx, l, api.Bridge{Status: func(bool) any {
			return service.Report{InstanceID: "salt-1", Started: time.Now().Add(-3 * time.Hour), Ready: true,
				StoreReached: true,
				Bus:          service.BusReport{Connected: true, Framing: "length", Events: 48_211, Gaps: 1},
				Engine:       service.Status{Running: running}}
		}})
	}()
	t.Cleanup(func() { stop(); <-done })
	term := newTerminal(t, 100, 23)
	cmd := term.start(nil, append(slices.Clone(a.args[1:]), "status", "--watch")...)
	term.await("the view", func(lines []string) bool {
		return showsPart(lines, "failed: web-8") && showsPart(lines, "times: highstate succeeded")
	})
	page := filepath.Join(t.TempDir(), "watch.html")
	text := `<!doctype html><meta charset="utf-8"><style>body{margin:0;background:#111;color:#ddd}pre{margin:16px;font:15px/1.35 monospace}</style><pre>` +
		html.EscapeString(strings.Join(term.lines(), "\n")) + "</pre>"
	if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ended(t, cmd, func() { term.press("q") })
	path := filepath.Join(dir, "watch.png")
	lab.Chromium(t, "--window-size=960,510", "--screenshot="+path, "file://"+page)
	if info, err := os.Stat(path); err != nil || info.Size() < 10_000 {
		t.Errorf("%s: %v, %v", path, info, err)
	}
}
