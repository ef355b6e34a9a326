package cli

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"phoenix/bridge/admin"
	"phoenix/bridge/audit"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
)

// watchedFleet is a fleet with a master and a minion, and its configuration.
func watchedFleet(t *testing.T) (cfg string, store fleet.Store) {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if _, err := store.Beat(t.Context(), fleet.Beat{InstanceID: "master-1", IPAddr: "192.0.2.1", Incarnation: "a",
		Ready: true}); err != nil {
		t.Fatal(err)
	}
	expect(t, store, "web-1")
	var lines bytes.Buffer
	slog.New(slog.NewJSONHandler(&lines, nil)).Info("key accepted", "minion", "web-1", "rule", "listed")
	if err := audit.Append(filepath.Join(dir, "audit.log"), lines.Bytes(), audit.MaxFile); err != nil {
		t.Fatal(err)
	}
	cfg = filepath.Join(dir, "phoenix.yaml")
	text := fmt.Sprintf("store: sqlite:%s\nsalt_config: %s\nsocket: %s\n", filepath.Join(dir, "fleet.db"),
		filepath.Join(dir, "none"), filepath.Join(dir, "s"))
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return cfg, store
}

func expect(t *testing.T, store fleet.Store, id string) {
	t.Helper()
	if _, err := fleet.ApplyOne(t.Context(), store, fleet.Add{InstanceID: id, MinionID: id}); err != nil {
		t.Fatal(err)
	}
}

func shows(lines []string, words ...string) bool {
	return slices.ContainsFunc(lines,
		func(line string) bool { return strings.Join(strings.Fields(line), " ") == strings.Join(words, " ") })
}

func showsPart(lines []string, part string) bool {
	return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, part) })
}

// The live view is driven in a terminal of the kernel's: it shows what is, follows
// it in place, fits the window, and gives the terminal back, however it ends.
func TestStatusIsWatchedInATerminal(t *testing.T) {
	cfg, store := watchedFleet(t)
	watch := []string{"--config", cfg, "status", "--watch", "--interval=500ms"}
	term := newTerminal(t, 120, 40)
	cmd := term.start(nil, watch...)
	term.await("the view", func(lines []string) bool {
		return shows(lines, "listed", "1", "in the fleet, has not sent an auth request yet") &&
			showsPart(lines, "master-1") &&
			showsPart(lines, "bridge: none answers") && showsPart(lines, "web-1: key accepted rule=listed")
	})
	if first := term.lines()[0]; !strings.HasPrefix(first, "phoenix status on ") ||
		!strings.HasSuffix(first, "every 500ms  q: quit, j k: scroll") {
		t.Errorf("it begins with %q", first)
	}
	expect(t, store, "web-2")
	term.await("the fleet's growth", func(lines []string) bool {
		return shows(lines, "listed", "2", "in the fleet, has not sent an auth request yet")
	})

	term.resize(44, 8)
	term.await("a small window's view", func(lines []string) bool {
		return strings.HasPrefix(lines[7], "… ") && strings.HasSuffix(lines[7], " more lines (j, k, space)") &&
			strings.HasPrefix(lines[0], "phoenix status on ")
	})
	term.press("G")
	term.await("the end of the view", func(lines []string) bool {
		return showsPart(lines, "web-1: key accepted") && !showsPart(lines, "phoenix status on ")
	})
	term.press("\x1b[5~g")
	term.await("its begin", func(lines []string) bool { return showsPart(lines, "phoenix status on ") })
	term.resize(200, 50)
	term.await("a large window's view",
		func(lines []string) bool { return showsPart(lines, "web-1: key accepted rule=listed") })
	term.mu.Lock()
	drawn, cleared := term.drawn, term.cleared
	term.mu.Unlock()
	if cleared > 0 || drawn < 4 {
		t.Errorf("%d frames were drawn, and %d times the whole screen was cleared", drawn, cleared)
	}
	ended(t, cmd, func() { term.press("xq") })
	term.restored()

	for name, end := range map[string]func(*terminal, *exec.Cmd){
		"Ctrl-C":  func(term *terminal, _ *exec.Cmd) { term.press("\x03") },
		"SIGTERM": func(_ *terminal, cmd *exec.Cmd) { _ = cmd.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			term := newTerminal(t, 100, 30)
			cmd := term.start(nil, watch...)
			term.await("the view", func(lines []string) bool { return showsPart(lines, "master-1") })
			ended(t, cmd, func() { end(term, cmd) })
			term.restored()
		})
	}
}

// ended makes the command end, which must be well.
func ended(t *testing.T, cmd *exec.Cmd, end func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	end()
	if err := <-done; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// What is no terminal, or one that understands nothing, gets plain text.
func TestStatusIsWatchedWithoutATerminal(t *testing.T) {
	cfg, _ := watchedFleet(t)
	for name, args := range map[string][]string{"text": {"--watch"}, "JSON": {"--watch", "--json"}} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			out := &stopping{stop: stop, after: 2}
			var errs bytes.Buffer
			code := run(ctx, append([]string{"phoenix", "--config", cfg, "status", "--interval=500ms"}, args...), out,
				&errs)
			if code != exitOK || errs.Len() > 0 || strings.ContainsAny(out.got.String(), "\x1b\r") ||
				strings.Count(out.got.String(), "master-1") < 2 {
				t.Errorf("exit %d: %q\n%s", code, &out.got, &errs)
			}
		})
	}
	t.Run("dumb terminal", func(t *testing.T) {
		term := newTerminal(t, 100, 30)
		cmd := term.start([]string{"TERM=dumb"}, "--config", cfg, "status", "--watch")
		term.await("a block", func([]string) bool {
			term.mu.Lock()
			defer term.mu.Unlock()
			return strings.Contains(term.scrolled.String(), "key accepted")
		})
		ended(t, cmd, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
		if len(term.unknown) > 0 || term.alternate {
			t.Errorf("a dumb terminal was sent %v", term.unknown)
		}
	})
	for _, args := range []string{"--watch --interval=1ms", "--interval=5s"} {
		var out, errs bytes.Buffer
		line := append([]string{"phoenix", "--config", cfg, "status"}, strings.Fields(args)...)
		if code := run(t.Context(), line, &out, &errs); code != exitUsage ||
			!strings.Contains(errs.String(), "--interval") {
			t.Errorf("%s: exit %d: %s", args, code, &errs)
		}
	}
}

// stopping ends the command after so many writes.
type stopping struct {
	got   bytes.Buffer
	stop  func()
	after int
}

func (s *stopping) Write(p []byte) (int, error) {
	if s.after--; s.after == 0 {
		s.stop()
	}
	return s.got.Write(p)
}

// unlisted is a store whose minions may not be listed.
type unlisted struct {
	fleet.Store
	t *testing.T
}

func (u unlisted) ByStatus(context.Context, fleet.Status, string, func([]fleet.Minion) error) error {
	u.t.Error("the whole fleet is read")
	return nil
}

// In DynamoDB a look reads the masters, and no minion.
func TestWatchingReadsNoFleetInDynamoDB(t *testing.T) {
	path, store := watchedFleet(t)
	cfg, err := configOf(t, "show", "--config", path, "--store=dynamodb:")
	if err != nil {
		t.Fatal(err)
	}
	o, err := admin.Admin{Config: cfg, Store: unlisted{store, t}}.Status(t.Context(), admin.CountCheaply)
	if err != nil || len(o.Masters) != 1 || len(o.Minions) > 0 || o.Counted == "" {
		t.Errorf("%+v, %v", o, err)
	}
}
