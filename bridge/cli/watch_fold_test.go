package cli

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/audit"
)

// An act on many minions is one line; what differs in more than the minion is not folded.
func TestFold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	var text bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&text, nil))
	for i := range 400 {
		log.Info("key accepted", "minion", fmt.Sprint("web-", i), "rule", "bound", "key", fmt.Sprint(i))
	}
	log.Info("key accepted", "minion", "db-1", "rule", "listed")
	log.Warn("highstate erred", "minion", "db-1", "jid", "1", "retcode", 2)
	log.Info("bridge started", "master", "salt-1")
	for range 2 {
		log.Info("bridge stopped", "master", "salt-1")
	}
	if err := audit.Append(path, text.Bytes(), audit.MaxFile); err != nil {
		t.Fatal(err)
	}
	lines, err := audit.Last(path, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	got := fold(lines)
	if len(got) != 5 {
		t.Fatalf("%d lines", len(got))
	}
	for i, want := range []string{"400 times: key accepted rule=bound (web-0, web-1, web-2, …)",
		"db-1: key accepted rule=listed", "db-1: highstate erred jid=1 retcode=2",
		"  bridge started master=salt-1", "  2 times: bridge stopped"} {
		if line := got[i].line(newClock(time.Now())); !strings.HasSuffix(line, want) {
			t.Errorf("%q, not %q", line, want)
		}
	}
}

// The view is scrolled by lines and pages, and not past its ends.
func TestScroll(t *testing.T) {
	var s scroller
	for _, step := range []struct {
		typed string
		want  int
	}{
		{"j", 1}, {"jj", 3}, {"k", 2}, {"\x1b[B", 3}, {"\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A", 0}, {" ", 9}, {"\x1b[6~", 18},
		{"\x1b[5~", 9},
		{"G", 90}, {"j", 90}, {"g", 0}, {"x\x1b", 0}, {"j", 0}, {"j", 1},
	} {
		for _, key := range []byte(step.typed) {
			s.press(key)
			s.fit(100, 10)
		}
		if s.offset != step.want {
			t.Fatalf("after %q at line %d, not %d", step.typed, s.offset, step.want)
		}
	}
	lines := make([]string, 20)
	for i := range lines {
		lines[i] = fmt.Sprint("line ", i)
	}
	for offset, want := range map[int]string{0: "… 13 more lines (j, k, space)", 12: "line 19"} {
		frame := string(frameOf(lines[offset:], 80, 8))
		if !strings.Contains(frame, want) || strings.Contains(frame, "\n\r") {
			t.Errorf("from %d: %q", offset, frame)
		}
	}
}
