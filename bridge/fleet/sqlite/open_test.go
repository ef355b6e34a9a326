package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

func TestOpenMakesAndKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c=%41#d.db") // a URI would be another file
	first := openTest(t, path)
	if _, err := fleet.ApplyOne(t.Context(), first, fleet.Add{InstanceID: "i-1"}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	second := openTest(t, path)
	if _, err := second.Minion(t.Context(), "i-1"); err != nil {
		t.Error(err)
	}
	a, errA := first.Since(t.Context())
	b, errB := second.Since(t.Context())
	if errA != nil || errB != nil || !a.Equal(b) {
		t.Errorf("since %v and %v (%v, %v)", a, b, errA, errB)
	}
}

// TestDurable: what a power cut would show, which a test cannot make.
func TestDurable(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "fleet.db"))
	var mode, synchronous string
	check(t, s.write.QueryRow(`PRAGMA journal_mode`).Scan(&mode))
	check(t, s.write.QueryRow(`PRAGMA synchronous`).Scan(&synchronous))
	if mode != "wal" || synchronous != "2" {
		t.Errorf("journal_mode %s, synchronous %s; want wal and 2, FULL", mode, synchronous)
	}
}

// Many may start at once on a machine where nothing is: one fleet comes of it.
func TestOpenAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "fleet.db")
	var wg sync.WaitGroup
	stores := make([]*Store, 8)
	for i := range stores {
		wg.Go(func() {
			s, err := Open(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			stores[i] = s
			if _, err := s.Beat(t.Context(), fleet.Beat{InstanceID: "m"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	masters, err := stores[0].Masters(t.Context())
	if err != nil || len(masters) != 1 || masters[0].Heartbeat != int64(len(stores)) {
		t.Errorf("%d beats gave %+v (%v)", len(stores), masters, err)
	}
	for _, s := range stores {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left in the folder: %v (%v)", left, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, path string)
		kind    error
		says    string
	}{
		"no folder": {func(t *testing.T, path string) { check(t, os.Remove(filepath.Dir(path))) },
			fleet.ErrUnavailable, "mkdir -p "},
		"folder": {func(t *testing.T, path string) { check(t, os.Mkdir(path, 0o700)) }, fleet.ErrDenied,
			"names a file"},
		"empty": {func(t *testing.T, path string) { check(t, os.WriteFile(path, nil, 0o600)) }, fleet.ErrCorrupt,
			"the file is empty"},
		"text": {func(t *testing.T, path string) {
			check(t, os.WriteFile(path, []byte(strings.Repeat("text", 2000)), 0o600))
		}, fleet.ErrCorrupt, "not a database"},
		"other database": {otherDatabase, fleet.ErrCorrupt, "not a Phoenix store"},
		"newer schema":   {newerSchema, fleet.ErrDenied, fmt.Sprintf("this phoenix knows %d", len(migrations()))},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			check(t, os.Mkdir(dir, 0o700))
			path := filepath.Join(dir, "fleet.db")
			c.prepare(t, path)
			before, _ := os.ReadFile(path) // nothing, where there is no file
			s, err := Open(t.Context(), path)
			if err == nil {
				t.Fatal("opened", s.Close())
			}
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) ||
				!strings.HasPrefix(err.Error(), "open store "+path+": ") {
				t.Errorf("%v; want %v and %q", err, c.kind, c.says)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the file that was refused has changed")
			}
		})
	}
}

func otherDatabase(t *testing.T, path string) {
	check(t, os.WriteFile(path, nil, 0o600))
	db, err := connect(path, 1, time.Second, "")
	check(t, err)
	_, err = db.Exec(`CREATE TABLE t (x)`)
	check(t, errors.Join(err, db.Close()))
}

func newerSchema(t *testing.T, path string) {
	newer := usual()
	newer.steps = append(newer.steps, `ALTER TABLE minions ADD COLUMN new TEXT NOT NULL DEFAULT ''`)
	s, err := open(t.Context(), path, newer)
	check(t, err)
	check(t, s.Close())
}

// TestUpgrade: rows and their checksums outlive a new column.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	newStore(t, path)
	old := openTest(t, path)
	fillFleet(t, old, 3)
	before := contents(t, old)
	newerSchema(t, path)
	if after := contents(t, old); after != before { // a process that still runs reads on
		t.Errorf("after the upgrade:\n%s\nbefore:\n%s", after, before)
	}
	if _, err := Open(t.Context(), path); !errors.Is(err, fleet.ErrDenied) {
		t.Errorf("opened by the older: %v", err)
	}
}

// TestUpgradeFromFirst: a file of the first schema, with a row as it was written then.
func TestUpgradeFromFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	first := usual()
	first.steps = migrations()[:1]
	check(t, ready(t.Context(), path, first))
	db, err := connect(path, 1, time.Second, "")
	check(t, err)
	_, err = db.Exec(`INSERT INTO minions VALUES ('i-1', 'LAUNCH', '2026-01-01T00:00:00.000Z', 0, '', '', 'web', '', '', 0, '', '', '', '', 0, NULL, 0, ?)`,
		checksum("i-1", "LAUNCH", "2026-01-01T00:00:00.000Z", "", "", "", "web"))
	check(t, errors.Join(err, db.Close()))
	s := openTest(t, path)
	row, err := s.Minion(t.Context(), "i-1")
	if want := (fleet.Minion{InstanceID: "i-1", Status: fleet.Launch, Modified: "2026-01-01T00:00:00.000Z",
		Group: "web"}); err != nil || row != want {
		t.Errorf("%+v, %v", row, err)
	}
	row, err = fleet.ApplyOne(t.Context(), s, fleet.Retire{InstanceID: "i-1", HookName: "h", Inferred: true})
	if read, _ := s.Minion(t.Context(), "i-1"); err != nil || read != row || read.HookName != "h" || !read.Inferred {
		t.Errorf("%+v, %v; read back %+v", row, err, read)
	}
}

// TestNotAllowed runs as another user, since permissions do not bind root.
func TestNotAllowed(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, dir, path string){
		"no file, folder not writable": func(t *testing.T, dir, _ string) { check(t, os.Chmod(dir, 0o555)) },
		"folder not writable": func(t *testing.T, dir, path string) {
			newStore(t, path)
			check(t, errors.Join(os.Chmod(path, 0o666), os.Chmod(dir, 0o555)))
		},
		"file not writable": func(t *testing.T, dir, path string) {
			newStore(t, path)
			check(t, errors.Join(os.Chmod(path, 0o444), os.Chmod(dir, 0o777)))
		},
		"file not readable": func(t *testing.T, dir, path string) {
			newStore(t, path)
			check(t, errors.Join(os.Chmod(path, 0), os.Chmod(dir, 0o777)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			check(t, os.Mkdir(dir, 0o700))
			check(t, os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755)) // the test's own, closed to others
			prepare(t, dir, filepath.Join(dir, "fleet.db"))
			t.Cleanup(func() { check(t, os.Chmod(dir, 0o700)) })
			cmd, stderr := child(t, "nobody", filepath.Join(dir, "fleet.db"))
			out, err := cmd.Output()
			if err != nil || !strings.HasPrefix(string(out), "true open store ") ||
				!strings.Contains(string(out), "run it as root, or as the owner of ") {
				t.Errorf("%v: %s%s", err, out, stderr)
			}
		})
	}
}

func newStore(t *testing.T, path string) {
	t.Helper()
	s, err := Open(t.Context(), path)
	check(t, err)
	check(t, s.Close())
}

// TestDiskFull: the write fails whole and says why, and works once there is room.
func TestDiskFull(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "fleet.db"))
	var pages int
	check(t, s.write.QueryRow(`PRAGMA page_count`).Scan(&pages))
	_, err := s.write.Exec(`PRAGMA max_page_count = 20`)
	check(t, err)
	changes := make([]fleet.Change, 0, 200)
	for i := range cap(changes) {
		changes = append(changes, fleet.Adopt{InstanceID: batchID(0, i), KeySHA256: "k", PublicKey: rsaPEM})
	}
	if _, err := s.Apply(t.Context(), changes); !errors.Is(err, fleet.ErrUnavailable) ||
		!strings.Contains(err.Error(), "make room") {
		t.Errorf("disk full: %v", err)
	}
	if _, err := s.Minion(t.Context(), batchID(0, 0)); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("row of a write that failed: %v", err)
	}
	_, err = s.write.Exec(`PRAGMA max_page_count = 100000`)
	check(t, err)
	if _, err := s.Apply(t.Context(), changes); err != nil {
		t.Error(err)
	}
}

// TestNoSecondStore: a command that only reads creates no file, and says what creates one.
func TestNoSecondStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	if _, err := OpenExisting(t.Context(), path); !errors.Is(err, fleet.ErrUnavailable) ||
		!errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "phoenix bridge create it") {
		t.Errorf("opened where there is no file: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left in the folder: %v (%v)", left, err)
	}
	newStore(t, path)
	s, err := OpenExisting(t.Context(), path)
	check(t, err)
	check(t, s.Close())
}

// TestFileTakenAway: a file that is deleted or replaced under a running process is
// noticed by its next call, and works again when it is put back.
func TestFileTakenAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	s, err := Open(t.Context(), path)
	check(t, err)
	defer s.Close()
	fillFleet(t, s, 3)
	calls := func() map[string]error {
		_, errMinion := s.Minion(t.Context(), batchID(0, 0))
		_, errMasters := s.Masters(t.Context())
		_, errBeat := s.Beat(t.Context(), fleet.Beat{InstanceID: "m", Incarnation: "1"})
		_, errApply := s.Apply(t.Context(), []fleet.Change{fleet.Retire{InstanceID: "i-9"}})
		errList := s.ByStatus(t.Context(), fleet.Launch, "", func([]fleet.Minion) error { return nil })
		_, errPrune := s.Prune(t.Context())
		return map[string]error{"Minion": errMinion, "Masters": errMasters, "Beat": errBeat, "Apply": errApply,
			"ByStatus": errList, "Prune": errPrune}
	}
	check(t, os.Rename(path, path+".old"))
	for name, err := range calls() {
		if !errors.Is(err, fleet.ErrUnavailable) || !strings.Contains(err.Error(), "removed or renamed") {
			t.Errorf("%s without the file: %v", name, err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a second file was made: %v", err)
	}
	newStore(t, path)
	for name, err := range calls() {
		if !errors.Is(err, fleet.ErrCorrupt) || !strings.Contains(err.Error(), "replaced") {
			t.Errorf("%s on another file: %v", name, err)
		}
	}
	check(t, os.Rename(path+".old", path))
	for name, err := range calls() {
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("%s with the file put back: %v", name, err)
		}
	}
}

func TestClosedStore(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	check(t, err)
	check(t, s.Close())
	if _, err := s.Masters(t.Context()); !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}

// TestClockGoesBack: Modified does not, so that no change hides behind a watermark.
func TestClockGoesBack(t *testing.T) {
	clock := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s, err := open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"), at(&clock))
	check(t, err)
	defer func() { check(t, s.Close()) }()
	row, err := fleet.ApplyOne(t.Context(), s, fleet.Add{InstanceID: "i-1"})
	check(t, err)
	master, err := s.Beat(t.Context(), fleet.Beat{InstanceID: "m"})
	check(t, err)
	clock = clock.Add(-time.Hour)
	row2, err := fleet.ApplyOne(t.Context(), s, fleet.Retire{InstanceID: "i-1"})
	check(t, err)
	master2, err := s.Beat(t.Context(), fleet.Beat{InstanceID: "m"})
	check(t, err)
	if row2.Modified != row.Modified || master2.Modified != master.Modified ||
		row.Modified != "2026-05-01T12:00:00.000Z" {
		t.Errorf("modified went from %s to %s, and from %s to %s", row.Modified, row2.Modified, master.Modified,
			master2.Modified)
	}
}

// TestTombstonesEnd: an expired row is deleted with a later write, and not before.
func TestTombstonesEnd(t *testing.T) {
	clock := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s, err := open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"), at(&clock))
	check(t, err)
	defer func() { check(t, s.Close()) }()
	expires := clock.Add(24 * time.Hour).Unix()
	_, err = s.Apply(t.Context(), []fleet.Change{fleet.Retire{InstanceID: "i-1"},
		fleet.Tombstone{InstanceID: "i-1", Expires: expires}, fleet.Add{InstanceID: "i-2"}})
	check(t, err)
	for _, step := range []struct {
		after time.Duration
		want  error
	}{{23 * time.Hour, nil}, {2 * time.Hour, fleet.ErrNotFound}} {
		clock = clock.Add(step.after)
		_, err := fleet.ApplyOne(t.Context(), s, fleet.Rerun{InstanceID: "i-2"})
		check(t, err)
		_, err = fleet.ApplyOne(t.Context(), s, fleet.Add{InstanceID: "i-3" + clock.String()})
		check(t, err)
		if _, err := s.Minion(t.Context(), "i-1"); !errors.Is(err, step.want) {
			t.Errorf("at %v: %v", clock, err)
		}
	}
	if _, err := s.Minion(context.Background(), "i-2"); err != nil {
		t.Error(err)
	}
}

// at returns a clock that shows what the test says.
func at(clock *time.Time) options {
	o := usual()
	o.now = func() time.Time { return *clock }
	return o
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// One who only reads, or copies, waits for no writer.
func TestReaderTakesNoWriteLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	s := openTest(t, path)
	added(t, s, "web-1")
	held, err := s.write.BeginTx(t.Context(), nil) // BEGIN IMMEDIATE
	check(t, err)
	defer func() { check(t, held.Rollback()) }()
	if ids := idsIn(t, path); ids != "[web-1]" {
		t.Errorf("read %s", ids)
	}
	check(t, Backup(t.Context(), path, path+".copy"))
}
