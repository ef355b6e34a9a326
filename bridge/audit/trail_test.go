package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// write runs a trail, logs through it, and ends it.
func write(t *testing.T, path string, max int64, log func(*slog.Logger)) {
	t.Helper()
	trail := New(path, slog.New(slog.DiscardHandler))
	trail.max = max
	ctx, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = trail.Run(ctx) })
	log(slog.New(trail.Handler()))
	end()
	running.Wait()
}

func last(t *testing.T, path, id string, n int) []string {
	t.Helper()
	lines, err := Last(path, id, n)
	if err != nil {
		t.Fatal(err)
	}
	said := []string{}
	for _, l := range lines {
		said = append(said, strings.Join(append([]string{l.Text}, l.More...), " "))
	}
	return said
}

func TestTheTrailOutlivesItsBridge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if said := last(t, path, "web-1", 10); len(said) > 0 {
		t.Errorf("before anything was decided: %q", said)
	}
	write(t, path, MaxFile, func(log *slog.Logger) {
		log.Info("key accepted", "minion", "web-1", "rule", "listed", "reason", "a b", "attempt", 2, "nothing", "")
		log.Info("key left pending", "minion", "web-11")
		log.Info("key left pending", "minion", `<web-1>"minion":"web-1"`)
	})
	// A crash cut the last line, and somebody wrote into the file.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(`{"time":"2026-01-01T00:00:00Z","minion":"web-1","msg":"cu` +
		"\n[]\nnull\n{\"minion\":\"web-1\"}\n")
	_ = f.Close()
	write(t, path, MaxFile, func(log *slog.Logger) { log.Warn("keys deleted", "minion", "web-1") })

	want := []string{`key accepted rule=listed reason="a b" attempt=2`, "keys deleted"}
	if said := last(t, path, "web-1", 10); !slices.Equal(said, want) {
		t.Errorf("%q, not %q", said, want)
	}
	if said := last(t, path, "web-1", 1); !slices.Equal(said, want[1:]) {
		t.Errorf("the last: %q", said)
	}
	if said := last(t, path, `<web-1>"minion":"web-1"`, 10); len(said) != 1 {
		t.Errorf("of an odd id: %q", said)
	}
	if said := last(t, path, "", 100); len(said) != 4 {
		t.Errorf("of all: %q", said)
	}
	if text, err := json.Marshal(must(t, path)); err != nil || !strings.Contains(string(text), `"reason":"a b"`) {
		t.Errorf("as JSON: %s, %v", text, err)
	}
}

func must(t *testing.T, path string) []Line {
	t.Helper()
	lines, err := Last(path, "web-1", 10)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// Several bridges write to one file, which never grows past its bound, and no line
// is cut or lost but by age.
func TestTheTrailIsBoundedAndShared(t *testing.T) {
	const max, writers, each = 64 << 10, 4, 1000
	path := filepath.Join(t.TempDir(), "audit.log")
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				var line strings.Builder
				slog.New(slog.NewJSONHandler(&line, nil)).Info("decided", "minion",
					fmt.Sprintf("web-%d", w), "number", i)
				if err := Append(path, []byte(line.String()), max); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	for _, name := range []string{path, Old(path)} {
		info, err := os.Stat(name)
		if err != nil || info.Size() > max+200 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		text, _ := os.ReadFile(name)
		for line := range strings.Lines(string(text)) {
			if !json.Valid([]byte(line)) {
				t.Errorf("cut: %q", line)
			}
		}
	}
	left := 0
	for w := range writers { // of one that was done early nothing may be left
		said := last(t, path, fmt.Sprintf("web-%d", w), each)
		left += len(said)
		if len(said) > 0 && said[len(said)-1] != fmt.Sprintf("decided number=%d", each-1) {
			t.Errorf("writer %d: the last is %q", w, said[len(said)-1])
		}
		for i, text := range said { // the newest, without a hole
			if want := fmt.Sprintf("decided number=%d", each-len(said)+i); text != want {
				t.Fatalf("writer %d: %q, not %q", w, text, want)
			}
		}
	}
	if left < 300 { // a file and more, of some 110 bytes a line
		t.Errorf("%d lines are left", left)
	}
}

// A disk that stands still, or is not there, costs lines and holds nobody up.
func TestDecisionsDoNotWaitForTheTrail(t *testing.T) {
	trail := New(filepath.Join(t.TempDir(), "audit.log"), slog.New(slog.DiscardHandler))
	log := slog.New(trail.Handler())
	for range 2 * waiting { // nobody takes them
		log.Info("decided", "minion", "web-1")
	}
	if lost := trail.lost.Load(); lost != waiting {
		t.Errorf("%d lines are lost, not %d", lost, waiting)
	}
	write(t, t.TempDir(), MaxFile, func(log *slog.Logger) { log.Info("into a folder", "minion", "web-1") })
}
