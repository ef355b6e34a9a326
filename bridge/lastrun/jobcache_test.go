package lastrun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// jobCache is a folder as Salt's local_cache writes it.
type jobCache struct {
	t   *testing.T
	dir string
	n   int
}

// job writes a job, and the return of one minion, written at a time.
func (c *jobCache) job(id string, at time.Time, load, returned map[string]any) {
	c.t.Helper()
	c.n++
	folder := filepath.Join(c.dir, "jobs", fmt.Sprintf("%02x", c.n%256), fmt.Sprintf("%062x", c.n))
	load["jid"] = fmt.Sprintf("202601010000000%05d", c.n)
	for name, value := range map[string]any{".load.p": load, id + "/return.p": returned} {
		raw, err := msgpack.Marshal(value)
		path := filepath.Join(folder, name)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path, raw, 0o600)
		}
		if err == nil {
			err = os.Chtimes(path, at, at)
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestJobCache finds the last state run of each minion, whoever began it, among other jobs.
func TestJobCache(t *testing.T) {
	c := &jobCache{t: t, dir: t.TempDir()}
	if _, err := FromJobCache(t.Context(), c.dir, []string{"web-1"}); !IsNoJobCache(err) {
		t.Errorf("without one: %v", err)
	}
	began := time.Now().Add(-time.Hour).Truncate(time.Second)
	after := func(n int) time.Time { return began.Add(time.Duration(n) * time.Minute) }
	ok := map[string]any{"return": map[string]any{"test_|-a_|-a_|-nop": state(true, map[string]any{}, "a")},
		"retcode": 0, "success": true}
	bad := map[string]any{"return": map[string]any{"test_|-b_|-b_|-nop": state(false, map[string]any{}, "b")},
		"retcode": 2, "success": false}
	c.job("web-1", after(1), map[string]any{"fun": "state.apply", "arg": []any{}}, ok)
	c.job("web-1", after(3), map[string]any{"fun": "state.sls",
		"arg": []any{"web", map[string]any{"__kwarg__": true, "test": true}}}, bad)
	c.job("web-1", after(4), map[string]any{"fun": "test.ping", "arg": []any{}},
		map[string]any{"return": true, "retcode": 0, "success": true})
	c.job("web-1", after(5), map[string]any{"fun": "state.apply", "arg": []any{}}, // busy: it ran nothing
		map[string]any{"return": []any{`The function "state.apply" is running as PID 1 and was started at x with jid y`}, "retcode": 1, "success": false})
	// begun by the minion
	c.job("web-2", after(2), map[string]any{"fun": "state.single", "fun_args": []any{"test.nop"},
		"schedule": "nightly"}, ok)
	c.job("web-3", after(2), map[string]any{"fun": "test.ping"}, ok)
	c.job("web-4", after(1), map[string]any{"fun": "state.apply"}, ok)
	c.job("web-4", after(2), map[string]any{"fun": "state.apply"}, ok)
	if err := os.WriteFile(filepath.Join(c.dir, "jobs", "08", fmt.Sprintf("%062x", 8), ".load.p"), []byte("half"),
		0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "jobs", "odd"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	runs, err := FromJobCache(t.Context(), c.dir, []string{"web-1", "web-2", "web-3", "web-4", "web-9"})
	if err != nil || len(runs) != 3 {
		t.Fatalf("%+v, %v", runs, err)
	}
	if r := runs["web-1"]; r.Function != "state.sls" || r.Outcome != Failed || r.Retcode != 2 || !r.Test ||
		r.Failed != 1 || r.Names[0] != "b" ||
		!r.At.Equal(after(3)) || r.JID != "20260101000000000002" || r.Minion != "web-1" {
		t.Errorf("%+v", r)
	}
	if r := runs["web-2"]; r.Function != "state.single" || r.Outcome != Succeeded || r.States != 1 {
		t.Errorf("%+v", r)
	}
	if r := runs["web-4"]; !r.At.Equal(after(1)) {
		t.Errorf("one that is half written hides another: %+v", r)
	}
	over, stop := context.WithCancel(t.Context())
	stop()
	if _, err := FromJobCache(over, c.dir, []string{"web-1"}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its time: %v", err)
	}
}

// BenchmarkJobCache searches 20,000 jobs.
func BenchmarkJobCache(b *testing.B) {
	dir := b.TempDir()
	for i := range 20_000 {
		if err := os.MkdirAll(filepath.Join(dir, "jobs", fmt.Sprintf("%02x", i%256), fmt.Sprintf("%062x", i), "web-1"),
			0o755); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := FromJobCache(b.Context(), dir, []string{"web-1", "web-2"}); err != nil {
			b.Fatal(err)
		}
	}
}
