package service

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/salt"
)

// How many minions BenchmarkScale has. docs/benchmarks.md has the figures of 100,000:
//
//	go test ./bridge/service -run '^$' -bench Scale -benchtime 1x -scale.minions 100000
var scaleMinions = flag.Int("scale.minions", 10_000, "how many minions BenchmarkScale has")

// scaleFleet makes a store of known minions.
func scaleFleet(b *testing.B, n int) (store *sqlite.Store, keys map[string][]byte) {
	b.Helper()
	store, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "fleet.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	keys = make(map[string][]byte, n)
	var changes []fleet.Change
	for i := range n {
		id, key := "i-"+strings.Repeat("0", 17-len(strconv.Itoa(i)))+strconv.Itoa(i), publicKey(i)
		digest, err := fleet.KeyDigest(key)
		if err != nil {
			b.Fatal(err)
		}
		keys[id] = key
		changes = append(changes, fleet.Adopt{InstanceID: id, KeySHA256: digest, PublicKey: string(key)})
		if len(changes) == 1000 || i == n-1 {
			if _, err := store.Apply(b.Context(), changes); err != nil {
				b.Fatal(err)
			}
			changes = nil
		}
	}
	return store, keys
}

// keyFiles is a key store in files, as a master has it.
func keyFiles(b *testing.B, keys map[string][]byte) *salt.Keys {
	b.Helper()
	dir := b.TempDir()
	for _, state := range []salt.State{salt.Accepted, salt.Pending, salt.Rejected, salt.Denied} {
		if err := os.Mkdir(filepath.Join(dir, string(state)), 0o700); err != nil {
			b.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	for id, key := range keys {
		path := filepath.Join(dir, string(salt.Accepted), id)
		if err := os.WriteFile(path, key, 0o644); err != nil {
			b.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			b.Fatal(err)
		}
	}
	store, err := salt.OpenKeys(salt.Config{PKIDir: dir, KeysCacheDriver: "localfs_key"})
	if err != nil {
		b.Fatal(err)
	}
	return store
}

// spent is the time and the processor time that do takes.
func spent(do func()) (wall, cpu time.Duration) {
	used := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	begun, before := time.Now(), used()
	do()
	return time.Since(begun), used() - before
}

// BenchmarkScale is the engine of a large fleet, in which nothing happens: its start
// with all keys in place and with none, and the comparisons that follow.
func BenchmarkScale(b *testing.B) {
	store, keys := scaleFleet(b, *scaleMinions)
	n := len(keys)
	for _, c := range []struct {
		name string
		keys map[string][]byte
	}{{"keys in place", keys}, {"no keys", nil}} {
		b.Run(c.name, func(b *testing.B) {
			files := keyFiles(b, c.keys)
			c.keys = nil
			runtime.GC()
			clock := time.Now().Add(time.Hour) // the rows were written long ago
			cfg := Config{InstanceID: "i-0000000000000000a", Incarnation: "1", Admit: decide.Bound,
				ValidID:   func(string) bool { return true },
				Highstate: decide.Policy{Enabled: true, Attempts: 3, Lease: 30 * time.Second},
				Function:  "state.highstate", Concurrency: 10,
				ResyncEvery: ResyncEvery, PollEvery: time.Minute, UnknownFor: time.Minute}
			log := slog.New(slog.NewTextHandler(io.Discard, nil))
			e := NewEngine(cfg, store, newPlain(), files, beating{}, NewInbox(), NewAudit(log),
				func() time.Time { return clock }, log)
			report := func(what string, do func()) {
				wall, cpu := spent(do)
				b.ReportMetric(wall.Seconds(), what+"-s")
				b.ReportMetric(cpu.Seconds(), what+"-cpu-s")
			}
			resync := func() {
				for e.Step(context.Background()); e.resyncs.running != nil; {
					e.Step(context.Background())
				}
			}
			for b.Loop() {
				report("keys", func() {
					e.preloadKeys(context.Background())
					e.preloaded,
						e.keysPreloaded = true, true
				})
				report("ready", func() {
					for !e.Status().Resynced {
						e.Step(context.Background())
					}
				})
				clock = clock.Add(ResyncEvery + time.Second)
				report("second", resync)
				clock = clock.Add(ResyncEvery + time.Second)
				report("third", resync)
			}
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapAlloc)/1e6, "heap-MB")
			b.ReportMetric(float64(m.Sys)/1e6, "sys-MB")
			if len(e.unchanged) != n {
				b.Errorf("%d of %d minions need nothing", len(e.unchanged), n)
			}
		})
	}
}
