package sqlite

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/fleet"
)

// contents is all that a store holds, as text.
func contents(t *testing.T, s *Store) string {
	t.Helper()
	var text strings.Builder
	for _, status := range []fleet.Status{fleet.Launch, fleet.Terminate} {
		err := s.ByStatus(t.Context(), status, "", func(page []fleet.Minion) error {
			for _, row := range page {
				fmt.Fprintf(&text, "%+v\n", row)
				if alone, err := s.Minion(t.Context(), row.InstanceID); err != nil || alone != row {
					fmt.Fprintf(&text, "read alone: %+v, %v\n", alone, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	masters, err := s.Masters(t.Context())
	since, errSince := s.Since(t.Context())
	fmt.Fprintln(&text, masters, err, since, errSince)
	return text.String()
}

// damageable returns the bytes of a closed store, and what it holds.
func damageable(t *testing.T) (file []byte, whole string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fleet.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	fillFleet(t, s, 60)
	if _, err := s.Apply(t.Context(), []fleet.Change{fleet.Retire{InstanceID: fmt.Sprintf("i-%017x", 3)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Beat(t.Context(), fleet.Beat{InstanceID: "i-m1", IPAddr: "127.0.0.1", Ready: true}); err != nil {
		t.Fatal(err)
	}
	whole = contents(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return file, whole
}

// openDamaged: the check says a clear error, or all is there that was. Without it,
// nothing is read that was not so: a row is as it was, or named as a bad one.
func openDamaged(t *testing.T, path, what string, file []byte, whole string) (refused bool) {
	t.Helper()
	for _, suffix := range []string{"-wal", "-shm"} {
		_ = os.Remove(path + suffix)
	}
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), path)
	if err == nil {
		for _, row := range readable(t, s) {
			if !strings.Contains(whole, row) {
				t.Errorf("%s: opened, and read: %s", what, row)
			}
		}
		if err = s.Check(t.Context()); err == nil {
			if got := contents(t, s); got != whole {
				t.Errorf("%s: checked, and holds\n%s", what, got)
			}
		}
		if err := s.Close(); err != nil && !errors.Is(err, fleet.ErrCorrupt) {
			t.Logf("%s: %v", what, err)
		}
	}
	if bad, rest := fleet.WithoutBadRows(err); rest == nil {
		return len(bad) > 0
	}
	if !errors.Is(err, fleet.ErrCorrupt) || !strings.Contains(err.Error(), "phoenix store restore FILE") ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("%s: %v", what, err)
	}
	return true
}

// readable is as much as can be read of minions.
func readable(t *testing.T, s *Store) (rows []string) {
	t.Helper()
	for _, status := range []fleet.Status{fleet.Launch, fleet.Terminate} {
		err := s.ByStatus(t.Context(), status, "", func(page []fleet.Minion) error {
			for _, row := range page {
				rows = append(rows, fmt.Sprintf("%+v\n", row))
			}
			return nil
		})
		if err != nil && !errors.Is(err, fleet.ErrCorrupt) {
			t.Errorf("list: %v", err)
		}
	}
	return rows
}

// TestTruncatedFile (K2): at every page, and within it.
func TestTruncatedFile(t *testing.T) {
	const page = 4096
	file, whole := damageable(t)
	path := filepath.Join(t.TempDir(), "fleet.db")
	for size := 0; size < len(file); size += page {
		for _, n := range []int{size, size + 1, size + 100, size + page - 1} {
			if !openDamaged(t, path, fmt.Sprintf("cut to %d of %d bytes", n, len(file)), file[:n], whole) {
				t.Errorf("cut to %d of %d bytes: opened", n, len(file))
			}
		}
	}
	if openDamaged(t, path, "whole", file, whole) {
		t.Error("the whole file was refused")
	}
}

// TestFlippedBits (K2): one bit or one byte, all over the file, and each byte of
// the header.
func TestFlippedBits(t *testing.T) {
	const header, inRest = 112, 150
	file, whole := damageable(t)
	path := filepath.Join(t.TempDir(), "fleet.db")
	rng := rand.New(rand.NewPCG(11, 0))
	var refused, opened int
	for i := range header + inRest {
		at := i
		if at >= header {
			at = header + rng.IntN(len(file)-header)
		}
		bad := append([]byte(nil), file...)
		if i%2 == 0 {
			bad[at] ^= 1 << rng.IntN(8)
		} else {
			bad[at] ^= byte(1 + rng.IntN(255))
		}
		if openDamaged(t, path, fmt.Sprintf("byte %d changed from %#x to %#x", at, file[at], bad[at]), bad, whole) {
			refused++
		} else {
			opened++
		}
	}
	t.Logf("%d refused, %d whole", refused, opened)
	if refused == 0 || opened == 0 {
		t.Error("both must happen: pages have free space, and rows have checksums")
	}
}

// TestCutLog: what a cut -wal file loses is the newest transactions, whole (see
// the package's caveats).
func TestCutLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	s := openTest(t, path)
	const batches = 10
	for b := range batches {
		changes := []fleet.Change{fleet.Add{InstanceID: batchID(int64(b), 0)},
			fleet.Add{InstanceID: batchID(int64(b), 1)}}
		if _, err := s.Apply(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	const walHeader, frame = 32, 24 + 4096
	last := 0
	for size := walHeader; size <= len(wal); size += frame / 3 {
		cut := filepath.Join(t.TempDir(), "fleet.db")
		if err := errors.Join(os.WriteFile(cut, file, 0o600), os.WriteFile(cut+"-wal", wal[:size], 0o600)); err != nil {
			t.Fatal(err)
		}
		rows := 0
		c := openTest(t, cut)
		if err := c.ByStatus(t.Context(), fleet.Launch, "",
			func(page []fleet.Minion) error { rows += len(page); return nil }); err != nil {
			t.Fatal(err)
		}
		if rows%2 != 0 || rows < last {
			t.Errorf("log cut to %d of %d: %d rows after %d", size, len(wal), rows, last)
		}
		last = rows
	}
	if last < batches { // the last third of a frame may be missing, no more
		t.Errorf("%d rows from the whole log", last)
	}
}
