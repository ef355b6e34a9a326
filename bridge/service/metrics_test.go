package service

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/metrics"
	"phoenix/bridge/relay"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// fullReport is one of a bridge that has everything to report.
func fullReport(now time.Time) Report {
	return Report{Version: `v1 "odd"\`, Started: now.Add(-time.Hour), Ready: true, StoreReached: true,
		Beat: now.Add(-1500 * time.Millisecond), Proven: now.Add(-2 * time.Second),
		Bus: BusReport{Connected: true, Events: 12, Gaps: 1, Malformed: 2},
		Engine: Status{Resynced: true, ResyncTook: 250 * time.Millisecond,
			Census: Census{decide.PhaseForeign: 3, decide.PhaseDone: 4}, Running: 5, Fault: "store",
			Stages: map[string]string{"minions": "store"}, Problem: map[ProblemKind]int{BadRow: 1}},
		Counts: Counts{KeysAccepted: 7, Ended: map[fleet.Outcome]int64{fleet.Succeeded: 8}, StoreFailures: 9},
		Queue: &autoscaling.Status{Messages: &autoscaling.Stats{Applied: 1, Ignored: 2, Malformed: 3, Transient: 4},
			Hooks: 6, Held: []string{"c"}, Refuted: []string{"d", "e"},
			Reconcile: &autoscaling.Report{Passed: now.Add(-time.Minute), Held: []string{"a", "b"}}},
		Relay: &relay.Status{Hears: true,
			Peers:  []relay.Peer{{Master: "m2", Connected: true, Minions: 4}, {Master: "m3"}},
			Counts: relay.Counts{Carried: 10, Dropped: 11}}}
}

// gathered returns the samples of a report, by name and label, as a scrape has them.
func gathered(t *testing.T, r Report) map[string]float64 {
	t.Helper()
	all := prometheus.NewPedanticRegistry() // which checks that all is consistent
	all.MustRegister(NewCollector(func() Report { return r }))
	families, err := all.Gather()
	if err != nil {
		t.Fatal(err)
	}
	samples := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			samples[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return samples
}

// Each metric is collected where there is something to report.
func TestMetricsAreCollected(t *testing.T) {
	now := time.Now()
	report := fullReport(now)
	samples := gathered(t, report)
	for name, want := range map[string]float64{
		"phoenix_build_info v1 \"odd\"\\":          1,
		"phoenix_ready":                            1,
		"phoenix_heartbeat_age_seconds":            1.5,
		"phoenix_proof_age_seconds":                2,
		"phoenix_bus_events_total":                 12,
		"phoenix_keys foreign":                     3,
		"phoenix_keys_accepted_total":              7,
		"phoenix_highstates_ended_total succeeded": 8,
		"phoenix_highstates_running":               5,
		"phoenix_store_failures_total":             9,
		"phoenix_work_held_up":                     1,
		"phoenix_compare_duration_seconds":         0.25,
		"phoenix_queue_messages_total transient":   4,
		"phoenix_terminations_held":                3,
		"phoenix_terminations_refuted":             2,
		"phoenix_queue_messages_total refuted":     0,
		"phoenix_autoscaling_age_seconds":          60,
		"phoenix_relay_listens":                    1,
		"phoenix_relay_peer_connected m2":          1,
		"phoenix_relay_peer_connected m3":          0,
		"phoenix_relay_peer_minions m2":            4,
		"phoenix_relay_jobs_total carried":         10,
		"phoenix_relay_returns_total dropped":      11,
	} {
		if got, there := samples[name]; !there || got < want || got > want+10 ||
			!strings.HasSuffix(name, "age_seconds") && got != want {
			t.Errorf("%s is %v (%v), not %v", name, got, there, want)
		}
	}
	for _, m := range slices.Concat(reported, relayMetrics) {
		if len(m.values(report, now)) == 0 {
			t.Errorf("%s has no value", m.Name)
		}
	}
	if _, there := gathered(t, Report{})["phoenix_heartbeat_age_seconds"]; there { // a bridge that has just started
		t.Error("there is an age of a heartbeat that never was")
	}
	report.Version = "\xff" // no UTF-8
	if _, there := gathered(t, report)["phoenix_build_info \ufffd"]; !there {
		t.Error("a label that is no UTF-8 is not collected")
	}
}

// All that a scrape of a bridge gathers is named and described as Prometheus's
// linter wants it, and there are the metrics of the process and of Go.
func TestMetricsLint(t *testing.T) {
	durations := metrics.NewDurations()
	durations.Store("minion", time.Now())
	durations.Master("ping", time.Now())
	all := Registry(func() Report { return fullReport(time.Now()) }, durations)
	problems, err := testutil.GatherAndLint(all)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	count, err := testutil.GatherAndCount(all)
	if err != nil || count < len(Metrics()) {
		t.Errorf("%d series, %v", count, err)
	}
	for _, name := range []string{"process_resident_memory_bytes", "process_open_fds", "go_goroutines", "go_info"} {
		if count, err := testutil.GatherAndCount(all, name); count != 1 || err != nil {
			t.Errorf("%s: %d series, %v", name, count, err)
		}
	}
}

// docs/metrics.md has each metric, as the code has it. "go test -run
// TestMetricsAreDocumented -update" writes the table.
func TestMetricsAreDocumented(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "metrics.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), "| metric | type | by | |\n")
	_, after, ended := strings.Cut(rest, "\n\n")
	if !found || !ended {
		t.Fatal("docs/metrics.md has no table of metrics")
	}
	want := before + metricsTable() + "\n" + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Error("the table of docs/metrics.md is out of date: go test -run TestMetricsAreDocumented -update")
	}
}

func metricsTable() string {
	table := "| metric | type | by | |\n|---|---|---|---|\n"
	for _, m := range Metrics() {
		label := ""
		if m.Label != "" {
			label = "`" + m.Label + "`"
		}
		table += fmt.Sprintf("| `%s` | %s | %s | %s |\n", m.Name, m.Type, label, m.Help)
	}
	return table
}

// What an engine does is counted.
func TestWhatIsDoneIsCounted(t *testing.T) {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	r := newRig(t, store, func(*Config) {})
	r.apply(fleet.Add{InstanceID: "web-1"})
	right, wrong := []byte(lab.UnknownKey()), []byte(lab.UnknownKey())
	r.knocks("stranger", wrong)
	r.knocks("stranger", wrong) // the same decision again
	r.knocks("web-1", right)
	r.inbox.Enqueue("web-1", true) // it is connected
	r.step()
	r.returns("web-1")
	if row := r.row("web-1"); !row.HighstateRan {
		t.Errorf("its highstate did not run: %+v", row)
	}
	delete(r.salt.keys[salt.Accepted], "web-1")
	r.pass(knownFor)
	r.knocks("web-1", wrong)
	got := r.engine.audit.counters.Counts()
	want := Counts{KeysAccepted: 1, KeysRefused: 2, KeysUnlinked: 1, Published: 1}
	if got.KeysAccepted != want.KeysAccepted || got.KeysRefused != want.KeysRefused ||
		got.KeysUnlinked != want.KeysUnlinked ||
		got.Published != want.Published || got.Ended[fleet.Succeeded] != 1 || got.HeldUp != 0 {
		t.Errorf("counted %+v", got)
	}
}

// Failures of a store are counted; what a row says no with, and who gives up, are
// none.
func TestFailuresOfTheStoreAreCounted(t *testing.T) {
	inner, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inner.Close() })
	failing := false
	faulty := fleettest.NewFaulty(inner, func(fleettest.Call) (f fleettest.Fault) {
		if failing {
			f.Before = fleet.ErrUnavailable
		}
		return f
	})
	var c Counters
	store := CountFailures(faulty, &c)
	calls := []func(context.Context) error{
		func(ctx context.Context) error { _, err := store.Minion(ctx, "none"); return err },
		func(ctx context.Context) error { _, err := store.Minions(ctx, []string{"a"}); return err },
		func(ctx context.Context) error {
			_, err := store.Apply(ctx, []fleet.Change{fleet.Retire{InstanceID: "none"}})
			return err
		},
		func(ctx context.Context) error {
			return store.ByStatus(ctx, fleet.Launch, "", func([]fleet.Minion) error { return nil })
		},
		func(ctx context.Context) error { _, err := store.Masters(ctx); return err },
		func(ctx context.Context) error {
			_, err := store.Beat(ctx, fleet.Beat{InstanceID: "m", Incarnation: "1"})
			return err
		},
		func(ctx context.Context) error { return store.DrainMaster(ctx, "m", true) },
		func(ctx context.Context) error { return store.RetireMaster(ctx, "m") },
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, call := range calls {
		_ = call(t.Context())
		_ = call(gone)
	}
	if n := c.Counts().StoreFailures; n != 0 {
		t.Errorf("%d failures of a store that works", n)
	}
	failing = true
	for i, call := range calls {
		if err := call(t.Context()); err == nil {
			t.Errorf("call %d does not fail", i)
		}
		if n := c.Counts().StoreFailures; n != int64(i+1) {
			t.Errorf("%d failures after %d", n, i+1)
		}
	}
}

// A bridge that does its work is alive and, once it is ready, ready; one whose loops
// stand still is neither.
func TestHealth(t *testing.T) {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	o := newSetup(store, "1", slog.New(slog.DiscardHandler))
	s, err := New(o.cfg, fleet.Beat{}, o.parts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Alive(); err != nil {
		t.Errorf("at its start: %v", err)
	}
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "does not reach the store") {
		t.Errorf("before its first beat: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	lab.Eventually(t, time.Minute, "the bridge is ready", func() (bool, string) {
		err := s.Ready()
		return err == nil, fmt.Sprint(err)
	})
	if err := s.Alive(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	s.started = time.Now().Add(-time.Hour)
	s.engine.status.p.Store(&Status{At: time.Now().Add(-aliveFor - time.Second)})
	s.beats.mu.Lock()
	s.beats.ticked = time.Now().Add(-beatsFor - time.Second)
	s.beats.mu.Unlock()
	if err := s.Alive(); err == nil || !strings.Contains(err.Error(), "the engine has made no step for 5m") ||
		!strings.Contains(err.Error(), "the heartbeat loop has not run for 2m") {
		t.Errorf("with loops that stand still: %v", err)
	}
}

// What a scrape of a bridge reads, as text. "go test -run TestMetricsGolden -update"
// writes it.
func TestMetricsGolden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // for a clock that stands still
		durations := metrics.NewDurations()
		durations.Accepted(40 * time.Second)
		durations.Store("minion", time.Now())
		all := prometheus.NewRegistry()
		all.MustRegister(NewCollector(func() Report { return fullReport(time.Now()) }), durations)
		families, err := all.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, family := range families {
			if _, err := expfmt.MetricFamilyToText(&got, family); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join("testdata", "metrics.txt")
		if *update {
			if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || got.String() != string(want) {
			t.Errorf("%s is out of date (%v); write it by go test -run TestMetricsGolden -update, and look at the difference", path, err)
		}
	})
}
