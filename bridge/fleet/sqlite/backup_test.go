package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/fleet"
)

func added(t *testing.T, s *Store, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if _, err := fleet.ApplyOne(t.Context(), s, fleet.Add{InstanceID: id}); err != nil {
			t.Fatal(err)
		}
	}
}

func idsIn(t *testing.T, path string) string {
	t.Helper()
	s, err := OpenExisting(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var ids []string
	err = s.ByStatus(t.Context(), fleet.Launch, "", func(page []fleet.Minion) error {
		for _, m := range page {
			ids = append(ids, m.InstanceID)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(ids)
}

func restore(t *testing.T, from, path string) (before string, err error) {
	t.Helper()
	r, err := PrepareRestore(t.Context(), from, path)
	if err != nil {
		return "", err
	}
	defer r.Close()
	return r.Replace(t.Context())
}

// A backup has the rows of one moment, while others write; it comes back when nobody
// has the store open, and what it replaces stays.
func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "fleet.db"), filepath.Join(dir, "copy.db")
	if err := Backup(t.Context(), path, copied); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no store: %v", err)
	}
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	added(t, s, "web-1", "web-2")
	stop, wrote := make(chan struct{}), make(chan int)
	go func() { // a bridge
		n := 0
		for {
			select {
			case <-stop:
				wrote <- n
				return
			default:
				if _, err := fleet.ApplyOne(t.Context(), s, fleet.Add{InstanceID: fmt.Sprint("db-", n)}); err != nil {
					t.Error(err)
				}
				n++
			}
		}
	}()
	err = Backup(t.Context(), path, copied)
	close(stop)
	if n := <-wrote; err != nil || n == 0 {
		t.Fatalf("%d rows were written: %v", n, err)
	}
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := Backup(t.Context(), path, copied); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	had := idsIn(t, copied)
	if !strings.Contains(had, "web-1 ") || !strings.Contains(had, "web-2") {
		t.Fatal(had)
	}
	added(t, s, "later")
	for to, want := range map[string]string{dir: "that is a folder: name a file in it",
		filepath.Join(dir, "no", "such.db"): "there is no folder " + filepath.Join(dir, "no")} {
		if err := Backup(t.Context(), path, to); err == nil || !strings.Contains(err.Error(), want) ||
			strings.Count(err.Error(), path) != 1 || strings.Contains(err.Error(), "in use") {
			t.Errorf("to %s: %v", to, err)
		}
	}
	if _, err := restore(t, copied, path); !errors.Is(err, ErrOpen) {
		t.Errorf("while it is open: %v", err)
	}
	if _, err := fleet.ApplyOne(t.Context(), s, fleet.Add{InstanceID: "latest"}); err != nil {
		t.Errorf("after a restore that was refused: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := restore(t, copied, path)
	if err != nil || idsIn(t, path) != had || !strings.HasSuffix(idsIn(t, before), " later latest]") {
		t.Fatalf("%v: %s, not %s; before: %s", err, idsIn(t, path), had, before)
	}
	var mode string
	again, err := Open(t.Context(), path)
	if err == nil {
		err = errors.Join(again.write.QueryRowContext(t.Context(), `PRAGMA journal_mode`).Scan(&mode), again.Close())
	}
	if err != nil || mode != "wal" {
		t.Errorf("journal_mode %s, %v", mode, err)
	}
	// What is no store, or damaged, replaces nothing.
	broken := filepath.Join(dir, "broken.db")
	if err := os.WriteFile(broken, []byte("no store"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{broken, dir, filepath.Join(dir, "none")} {
		_, err := restore(t, from, path)
		if err == nil || idsIn(t, path) != had || !strings.HasSuffix(err.Error(), "; the store is unchanged") ||
			strings.Contains(err.Error(), ".part") || errors.Is(err, fleet.ErrCorrupt) {
			t.Errorf("from %s: %v", from, err)
		}
	}
	// A store that is damaged, or gone, is what a backup is for.
	if err := os.WriteFile(path, []byte("damaged beyond reading, and more than a header of a hundred bytes, so that SQLite reads it as what it is: no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := restore(t, copied, path); err != nil || idsIn(t, path) != had {
		t.Errorf("over a damaged store: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if before, err := restore(t, copied, path); err != nil || before != "" || idsIn(t, path) != had {
		t.Errorf("where there is none: %q, %v", before, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.part*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
