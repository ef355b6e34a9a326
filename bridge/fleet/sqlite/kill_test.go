package sqlite

import (
	"bufio"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// TestKilledWriter (K1): whatever a writer is doing when it is killed, opening the
// store included, what it was told is written is there, and nothing is in halves.
func TestKilledWriter(t *testing.T) {
	const rounds, freshEvery = 60, 6
	const budget = 20 * time.Second // a slow disk does fewer rounds
	const longest = 250 * time.Millisecond
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	start, done, acknowledged := time.Now(), 0, int64(0)
	var path string
	var last int64
	for ; done < rounds && time.Since(start) < budget; done++ {
		if done%freshEvery == 0 { // so that some are killed while they make the file
			path, last = filepath.Join(t.TempDir(), "fleet.db"), 0
		}
		told := max(last, runAndKill(t, path, time.Duration(rng.Int64N(int64(longest)))))
		acknowledged += told - last
		last = checkBatches(t, path, told)
	}
	t.Logf("%d kills, %d batches acknowledged", done, acknowledged)
	if acknowledged == 0 {
		t.Error("every writer was killed before its first batch: nothing was tried")
	}
}

// runAndKill returns the last batch that the killed writer printed.
func runAndKill(t *testing.T, path string, after time.Duration) (last int64) {
	t.Helper()
	cmd, stderr := child(t, "write", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for first := true; lines.Scan(); first = false {
		if first { // it runs: on a busy machine a start takes longer than after
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		if last, err = strconv.ParseInt(lines.Text(), 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("writer ended by itself: %v, %s", err, stderr)
	}
	return last
}

// checkBatches opens what the writer left, and gives the last batch there.
func checkBatches(t *testing.T, path string, told int64) int64 {
	t.Helper()
	s, err := Open(t.Context(), path) // checks the file
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	hot, err := s.Minion(t.Context(), "hot")
	if err != nil && (told > 0 || !errors.Is(err, fleet.ErrNotFound)) {
		t.Fatalf("%d batches were acknowledged: %v", told, err)
	}
	// Killed between commit and answer, one batch more may be there.
	if hot.ClaimVersion < told || hot.ClaimVersion > told+1 {
		t.Errorf("%d batches were acknowledged, %d are there", told, hot.ClaimVersion)
	}
	rows := 0
	err = s.ByStatus(t.Context(), fleet.Launch, "", func(page []fleet.Minion) error {
		for _, row := range page {
			if row.InstanceID == "hot" {
				continue
			}
			rows++
			if row.KeySHA256 != "k" || row.PublicKey != rsaPEM {
				t.Errorf("half a row: %+v", row)
			}
		}
		return nil
	})
	if err != nil || int64(rows) != hot.ClaimVersion*rowsPerBatch {
		t.Errorf("%d rows of %d batches of %d: %v", rows, hot.ClaimVersion, rowsPerBatch, err)
	}
	return hot.ClaimVersion
}
