package sqlite

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// TestProcessesShareFile (K4): no update is lost, and no lock is seen.
func TestProcessesShareFile(t *testing.T) {
	const processes, rounds = 4, 100
	path := filepath.Join(t.TempDir(), "fleet.db")
	s := openTest(t, path)
	if _, err := fleet.ApplyOne(t.Context(), s, fleet.Add{InstanceID: "shared"}); err != nil {
		t.Fatal(err)
	}
	var cmds [processes]*exec.Cmd
	var outs, errs [processes]*bytes.Buffer
	for i := range cmds {
		cmds[i], errs[i] = child(t, "share", path, "p"+strconv.Itoa(i), strconv.Itoa(rounds))
		outs[i] = &bytes.Buffer{}
		cmds[i].Stdout = outs[i]
		if err := cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	won := 0
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Fatalf("process %d: %v: %s", i, err, errs[i])
		}
		n, err := strconv.Atoi(strings.TrimSpace(outs[i].String()))
		if err != nil {
			t.Fatal(err)
		}
		won += n
	}
	masters, err := s.Masters(t.Context())
	if err != nil || len(masters) != 1 || masters[0].Heartbeat != processes*rounds {
		t.Errorf("%d beats gave %+v (%v)", processes*rounds, masters, err)
	}
	row, err := s.Minion(t.Context(), "shared")
	if err != nil || row.ClaimVersion != int64(won) || won < rounds/2 {
		t.Errorf("%d claims won, version is %d (%v)", won, row.ClaimVersion, err)
	}
	rows := 0
	err = s.ByStatus(t.Context(), fleet.Launch, "", func(page []fleet.Minion) error { rows += len(page); return nil })
	if err != nil || rows != processes*rounds+1 {
		t.Errorf("%d rows of %d (%v)", rows, processes*rounds+1, err)
	}
	t.Logf("%d claims won, %d lost", won, processes*rounds-won)
}

// hold takes the write lock of the store at path, as a stopped process would,
// until the function that it returns is called.
func hold(t *testing.T, path string) (release func()) {
	t.Helper()
	db, err := connect(path, 1, time.Second, "_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(tx.Rollback(), db.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestLockIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	s := openTest(t, path)
	release := hold(t, path)
	waiting := make(chan error, 1)
	go func() {
		_, err := fleet.ApplyOne(t.Context(), s, fleet.Add{InstanceID: "i-1"})
		waiting <- err
	}()
	// While the writer waits, readers do not.
	for range 20 {
		if _, err := s.Minion(t.Context(), "i-1"); !errors.Is(err, fleet.ErrNotFound) {
			t.Error(err)
		}
	}
	select {
	case err := <-waiting:
		t.Errorf("written under another's lock: %v", err)
	default:
	}
	release()
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

func TestLockWaitEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	short := usual()
	short.lockWait = 100 * time.Millisecond
	s, err := open(t.Context(), path, short)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	release := hold(t, path)
	_, err = s.Beat(t.Context(), fleet.Beat{InstanceID: "m"})
	if !errors.Is(err, fleet.ErrUnavailable) || !strings.Contains(err.Error(), "fuser "+path) {
		t.Errorf("lock held: %v", err)
	}
	if _, err := open(t.Context(), path, short); !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("open with the lock held: %v", err)
	}

	// The caller's context ends the wait, however long it would be.
	release()
	long := openTest(t, path)
	release = hold(t, path)
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = long.Beat(ctx, fleet.Beat{InstanceID: "m"})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > lockWait/2 {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

// TestBusyWritersKeepNobodyOut: a writer that takes the lock again a moment after it gave
// it back leaves room for others: one of the next moments is theirs.
func TestBusyWritersKeepNobodyOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	s := openTest(t, path)
	var moments atomic.Int64
	taken, stop, stopped := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			release := hold(t, path)
			select {
			case taken <- struct{}{}:
			case <-time.After(100 * time.Millisecond):
			case <-stop:
				release()
				return
			}
			time.Sleep(20 * time.Millisecond)
			moments.Add(1)
			release()
			time.Sleep(8 * time.Millisecond)
		}
	}()
	defer func() { close(stop); <-stopped }()
	var missed []int64
	for range 10 {
		<-taken
		before := moments.Load()
		if _, err := s.Beat(t.Context(), fleet.Beat{InstanceID: "m"}); err != nil {
			t.Fatal(err)
		}
		missed = append(missed, moments.Load()-before)
	}
	// With SQLite's own wait it is 8 and more: it looks every 100 ms.
	slices.Sort(missed)
	if missed[len(missed)/2] > 5 {
		t.Errorf("writes waited for so many moments in which the lock was free: %v", missed)
	}
	t.Logf("moments waited for: %v", missed)
}
