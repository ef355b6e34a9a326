package service

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/relay"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// fullReport is one of a bridge that has everything to tell.
func fullReport(now time.Time) Report {
	return Report{Version: `v1 "odd"\`, Started: now.Add(-time.Hour), Ready: true, StoreReached: true, Beat: now.Add(-1500 * time.Millisecond), Proven: now.Add(-2 * time.Second),
		Bus:    BusReport{Connected: true, Events: 12, Gaps: 1, Malformed: 2},
		Engine: Status{Resynced: true, ResyncTook: 250 * time.Millisecond, Census: Census{decide.PhaseForeign: 3, decide.PhaseDone: 4}, Running: 5, Fault: "store", Stages: map[string]string{"minions": "store"}, Problem: map[ProblemKind]int{BadRow: 1}},
		Counts: Counts{KeysAccepted: 7, Ended: map[fleet.Outcome]int64{fleet.Succeeded: 8}, StoreFailures: 9},
		Queue: &autoscaling.Status{Messages: &autoscaling.Stats{Ours: 1, NotOurs: 2, Malformed: 3, Transient: 4}, Hooks: 6, Held: []string{"c"}, Refuted: []string{"d", "e"},
			Reconcile: &autoscaling.Report{Passed: now.Add(-time.Minute), Held: []string{"a", "b"}}},
		Relay: &relay.Status{Hears: true, Peers: []relay.Peer{{Master: "m2", Connected: true, Minions: 4}, {Master: "m3"}}, Counts: relay.Counts{Carried: 10, Dropped: 11}}}
}

// The lines of Prometheus's text format 0.0.4.
var (
	helpLine   = regexp.MustCompile(`^# HELP ([a-z_]+) (\S.*)$`)
	typeLine   = regexp.MustCompile(`^# TYPE ([a-z_]+) (counter|gauge)$`)
	sampleLine = regexp.MustCompile(`^([a-z_]+)(?:\{([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"\})? (\S+)$`)
)

// readMetrics reads the text as strictly as its format is defined, and gives the
// samples by name and label.
func readMetrics(t *testing.T, text string) map[string]float64 {
	t.Helper()
	samples, help, typed := map[string]float64{}, "", ""
	for line := range strings.Lines(text) {
		line, ended := strings.CutSuffix(line, "\n")
		if m := helpLine.FindStringSubmatch(line); m != nil {
			help = m[1]
			continue
		}
		if m := typeLine.FindStringSubmatch(line); m != nil && m[1] == help && m[1] != typed {
			typed = m[1]
			if strings.HasSuffix(typed, "_total") != (m[2] == "counter") {
				t.Errorf("%s is a %s", typed, m[2])
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil || m[1] != typed || !ended {
			t.Fatalf("line %q does not fit", line)
		}
		value, err := strconv.ParseFloat(m[4], 64)
		if _, twice := samples[m[1]+m[3]]; err != nil || twice {
			t.Errorf("line %q: twice, or %v", line, err)
		}
		samples[strings.TrimSpace(m[1]+" "+m[3])] = value
	}
	return samples
}

// Each metric is told, in the format that Prometheus reads.
func TestMetricsAreTold(t *testing.T) {
	now := time.Now()
	var text strings.Builder
	if err := WriteMetrics(&text, fullReport(now), now); err != nil {
		t.Fatal(err)
	}
	samples := readMetrics(t, text.String())
	for name, want := range map[string]float64{
		`phoenix_build_info v1 \"odd\"\\`:          1,
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
		if got, there := samples[name]; !there || got != want {
			t.Errorf("%s is %v (%v), not %v", name, got, there, want)
		}
	}
	for _, m := range Metrics() {
		if !strings.Contains(text.String(), "# TYPE "+m.Name+" "+m.Type+"\n") {
			t.Errorf("%s is not told", m.Name)
		}
	}
	text.Reset()
	if err := WriteMetrics(&text, Report{}, now); err != nil { // a bridge that has just begun
		t.Fatal(err)
	}
	if _, there := readMetrics(t, text.String())["phoenix_heartbeat_age_seconds"]; there {
		t.Error("there is an age of a heartbeat that never was")
	}
}

// docs/metrics.md has each metric, as the code has it.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	if table := metricsTable(); !strings.Contains(string(text), table) {
		t.Errorf("docs/metrics.md has not this table:\n%s", table)
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
	if got.KeysAccepted != want.KeysAccepted || got.KeysRefused != want.KeysRefused || got.KeysUnlinked != want.KeysUnlinked ||
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
	fake := newPlain()
	s := New(Options{Store: store, Master: fake, Keys: fake, Log: slog.New(slog.DiscardHandler), Beat: fleet.Beat{InstanceID: "m", Incarnation: "1"},
		Config: Config{InstanceID: "m", Incarnation: "1", Admit: decide.Bound, ValidID: func(string) bool { return true },
			Highstate: decide.Policy{Lease: 30 * time.Second}, ResyncEvery: time.Hour, PollEvery: time.Hour}})
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
	if err := s.Alive(); err == nil || !strings.Contains(err.Error(), "the engine has made no step for 5m") || !strings.Contains(err.Error(), "stood still for 2m") {
		t.Errorf("with loops that stand still: %v", err)
	}
}
