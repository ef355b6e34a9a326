package service

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAcceptedFile(t *testing.T) {
	path, log := filepath.Join(t.TempDir(), "accepted"), slog.New(slog.NewTextHandler(io.Discard, nil))
	one, two := strings.Repeat("1", 64), strings.Repeat("2", 64)
	a := OpenAccepted(path, log)
	a.Add("kept", one)
	a.Add("removed", one)
	a.Remove("removed")
	a.Add("rebound", one)
	a.Add("rebound", two)
	if err := os.WriteFile(path, append(must(t)(os.ReadFile(path)),
		strings.Repeat("\x00", 5*maxAcceptedLine)+"\nafter "+one[:16]+"\ntorn 1111"...), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second reads what the first made anew
		a = OpenAccepted(path, log)
		if !a.Has("kept", one) || a.Has("kept", two) || a.Knows("removed") || !a.Has("rebound", two) ||
			a.Knows("torn") || !a.Has("after", one) || len(a.keys) != 3 {
			t.Errorf("remembered %v", a.keys)
		}
	}
	if text := string(must(t)(os.ReadFile(path))); strings.Count(text, "\n") != 3 {
		t.Errorf("made anew: %q", text)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestAcceptedFileUnwritable: a folder that is not there costs the memory over a
// restart, and nothing else; it is said once.
func TestAcceptedFileUnwritable(t *testing.T) {
	var said strings.Builder
	a := OpenAccepted(filepath.Join(t.TempDir(), "none", "accepted"), slog.New(slog.NewTextHandler(&said, nil)))
	a.Add("a", strings.Repeat("1", 64))
	a.Remove("a")
	a.Add("b", strings.Repeat("1", 64))
	if !a.Knows("b") || a.Knows("a") || strings.Count(said.String(), "not recorded") != 1 {
		t.Errorf("remembered %v, said %q", a.keys, said.String())
	}
}

func must(t *testing.T) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}
