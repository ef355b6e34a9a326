package service

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Metric is one that the bridge serves; docs/metrics.md has them all.
type Metric struct {
	Name  string
	Type  string // counter or gauge, as Prometheus has it
	Label string // empty: none
	Help  string

	// values gives the value for each value of the label; under "" where there is
	// none. A metric without values is left out.
	values func(r Report, now time.Time) map[string]float64
}

// Metrics are all there are.
func Metrics() []Metric { return slices.Concat(metrics, relayMetrics) }

func one(v float64) map[string]float64 { return map[string]float64{"": v} }

func number[N ~int | ~int64 | ~uint64](v N) map[string]float64 { return one(float64(v)) }

func truth(b bool) map[string]float64 {
	if b {
		return one(1)
	}
	return one(0)
}

// age is how long something is ago, in seconds; nothing if it never was.
func age(at, now time.Time) map[string]float64 {
	if at.IsZero() {
		return nil
	}
	return one(now.Sub(at).Seconds())
}

// by returns counts by the names of what is counted.
func by[K ~string, N ~int | ~int64](counts map[K]N) map[string]float64 {
	out := make(map[string]float64, len(counts))
	for k, n := range counts {
		out[string(k)] = float64(n)
	}
	return out
}

var metrics = []Metric{
	{"phoenix_build_info", "gauge", "version", "The version of phoenix; always 1.", func(r Report, _ time.Time) map[string]float64 {
		return map[string]float64{r.Version: 1}
	}},
	{"phoenix_start_time_seconds", "gauge", "", "When the bridge was started, in seconds since 1970.", func(r Report, _ time.Time) map[string]float64 {
		return one(float64(r.Started.UnixMilli()) / 1000)
	}},
	{"phoenix_ready", "gauge", "", "1 if minions may be sent to this master.", func(r Report, _ time.Time) map[string]float64 { return truth(r.Ready) }},
	{"phoenix_proof_age_seconds", "gauge", "", "Seconds since the master was last proven to serve: a worker answered, and the event bus was connected.", func(r Report, now time.Time) map[string]float64 { return age(r.Proven, now) }},
	{"phoenix_draining", "gauge", "", "1 if minions are to leave this master.", func(r Report, _ time.Time) map[string]float64 { return truth(r.Master.Draining) }},
	{"phoenix_store_reached", "gauge", "", "1 if the heartbeat reaches the store.", func(r Report, _ time.Time) map[string]float64 { return truth(r.StoreReached) }},
	{"phoenix_heartbeat_age_seconds", "gauge", "", "Seconds since the last heartbeat that reached the store.", func(r Report, now time.Time) map[string]float64 { return age(r.Beat, now) }},
	{"phoenix_store_failures_total", "counter", "", "Calls of the store that failed.", func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.StoreFailures) }},

	{"phoenix_bus_connected", "gauge", "", "1 if the master's event bus is connected.", func(r Report, _ time.Time) map[string]float64 { return truth(r.Bus.Connected) }},
	{"phoenix_bus_events_total", "counter", "", "Events read.", func(r Report, _ time.Time) map[string]float64 { return number(r.Bus.Events) }},
	{"phoenix_bus_malformed_total", "counter", "", "Events that were none.", func(r Report, _ time.Time) map[string]float64 { return number(r.Bus.Malformed) }},
	{"phoenix_bus_gaps_total", "counter", "", "Times that events may have been missed; the first connection is one.", func(r Report, _ time.Time) map[string]float64 { return number(r.Bus.Gaps) }},

	{"phoenix_keys_accepted_total", "counter", "", "Keys accepted.", func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.KeysAccepted) }},
	{"phoenix_keys_adopted_total", "counter", "", "Minions adopted, whose keys were accepted before.", func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.KeysAdopted) }},
	{"phoenix_keys_refused_total", "counter", "", "Decisions not to accept a key; one that is taken again on each knock counts once.", func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.KeysRefused) }},
	{"phoenix_keys_unlinked_total", "counter", "", "Pending keys taken out of the key store.", func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.KeysUnlinked) }},
	{"phoenix_keys_deleted_total", "counter", "", "Terminated minions whose keys were deleted.", func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.KeysDeleted) }},
	{"phoenix_keys_to_delete", "gauge", "", "Minions whose keys wait to be deleted.", func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Deletes) }},
	{"phoenix_keys", "gauge", "standing", "Ids of this master's key store by where they stand, at the last comparison.", func(r Report, _ time.Time) map[string]float64 { return by(r.Engine.Census) }},

	{"phoenix_highstates_published_total", "counter", "", "First highstates sent.", func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.Published) }},
	{"phoenix_highstates_taken_over_total", "counter", "", "First highstates taken over from another master.", func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.TakenOver) }},
	{"phoenix_highstates_ended_total", "counter", "outcome", "First highstates that ended: succeeded, failed, busy (not an attempt) or vanished (lost on the minion).", func(r Report, _ time.Time) map[string]float64 { return by(r.Counts.Ended) }},
	{"phoenix_highstates_running", "gauge", "", "First highstates that this master runs.", func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Running) }},
	{"phoenix_highstates_queued", "gauge", "", "First highstates that wait for a slot.", func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Queued) }},
	{"phoenix_highstates_blocked", "gauge", "", "First highstates that wait for another state run of their minion to end.", func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Blocked) }},
	{"phoenix_highstates_wanted", "gauge", "", "Minions here that want their first highstate, those that run it included.", func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Tracked) }},

	{"phoenix_work_held_up", "gauge", "", "1 while store or master keep the work from being done.", func(r Report, _ time.Time) map[string]float64 { return truth(r.Engine.Fault != "") }},
	{"phoenix_work_held_up_total", "counter", "", "Times that work could not be done, and was tried again later.", func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.HeldUp) }},
	{"phoenix_stage_held_up", "gauge", "stage", "1 for each kind of work that cannot be done now; the others go on.", func(r Report, _ time.Time) map[string]float64 {
		out := map[string]float64{}
		for name := range r.Engine.Stages {
			out[name] = 1
		}
		return out
	}},
	{"phoenix_minions_passed_over", "gauge", "kind", "Minions passed over, or odd, while all others are served: row (it cannot be decoded), key (it cannot be read or written), entry (what lies among the keys and is none), stuck (it cannot be deleted), stamp (its row is stamped ahead of this clock), removed (its key was deleted here by hand).", func(r Report, _ time.Time) map[string]float64 {
		return by(r.Engine.Problem)
	}},
	{"phoenix_keys_written_total", "counter", "", "Known keys written as accepted before their minions came.", func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.KeysWritten) }},
	{"phoenix_work_waiting", "gauge", "", "Ids and returns that are looked at next.", func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Waiting) }},
	{"phoenix_work_dropped_total", "counter", "", "Events that were dropped, as too much waited; everything is compared after that.", func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Dropped) }},
	{"phoenix_compare_duration_seconds", "gauge", "", "How long the last comparison of keys and fleet took.", func(r Report, _ time.Time) map[string]float64 {
		if !r.Engine.Resynced {
			return nil
		}
		return one(r.Engine.ResyncTook.Seconds())
	}},

	{"phoenix_queue_messages_total", "counter", "class", "Messages of the queues: applied, passed_over (nothing follows), refuted (EC2 says that the instance lives), malformed, or transient (to come again).", func(r Report, _ time.Time) map[string]float64 {
		if r.Queue == nil || r.Queue.Messages == nil {
			return nil
		}
		m := r.Queue.Messages
		return map[string]float64{"applied": float64(m.Ours), "passed_over": float64(m.NotOurs), "refuted": float64(m.Refuted), "malformed": float64(m.Malformed), "transient": float64(m.Transient)}
	}},
	{"phoenix_hooks_waiting", "gauge", "", "Instances that a lifecycle hook holds.", func(r Report, _ time.Time) map[string]float64 {
		if r.Queue == nil {
			return nil
		}
		return number(r.Queue.Hooks)
	}},
	{"phoenix_terminations_held", "gauge", "", "Terminations that the brake holds: too many at once, or waiting for EC2's own word.", func(r Report, _ time.Time) map[string]float64 {
		if r.Queue == nil {
			return nil
		}
		n := len(r.Queue.Held)
		if r.Queue.Reconcile != nil {
			n += len(r.Queue.Reconcile.Held)
		}
		return number(n)
	}},
	{"phoenix_terminations_refuted", "gauge", "", "Instances that messages of the last day called terminated, and that live, as EC2 says.", func(r Report, _ time.Time) map[string]float64 {
		if r.Queue == nil {
			return nil
		}
		return number(len(r.Queue.Refuted))
	}},
	{"phoenix_autoscaling_age_seconds", "gauge", "", "Seconds since the fleet was last compared with AutoScaling.", func(r Report, now time.Time) map[string]float64 {
		if r.Queue == nil || r.Queue.Reconcile == nil {
			return nil
		}
		return age(r.Queue.Reconcile.Passed, now)
	}},

	{"process_resident_memory_bytes", "gauge", "", "Memory that the bridge takes.", func(Report, time.Time) map[string]float64 { return resident() }},
	{"go_goroutines", "gauge", "", "Goroutines of the bridge.", func(Report, time.Time) map[string]float64 { return number(runtime.NumGoroutine()) }},
}

// resident reads the memory of this process as the kernel counts it.
func resident() map[string]float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return nil
	}
	fields := strings.Fields(string(text)) // size, resident, …: in pages
	if len(fields) < 2 {
		return nil
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return nil
	}
	return one(float64(pages) * float64(os.Getpagesize()))
}

// WriteMetrics writes a report in Prometheus's text format, version 0.0.4.
func WriteMetrics(w io.Writer, r Report, now time.Time) error {
	out := bufio.NewWriter(w)
	for _, m := range Metrics() {
		values := m.values(r, now)
		if len(values) == 0 {
			continue
		}
		fmt.Fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", m.Name, helpText.Replace(m.Help), m.Name, m.Type)
		for _, label := range slices.Sorted(maps.Keys(values)) {
			out.WriteString(m.Name)
			if m.Label != "" {
				fmt.Fprintf(out, `{%s="%s"}`, m.Label, labelText.Replace(label))
			}
			fmt.Fprintf(out, " %s\n", float(values[label]))
		}
	}
	return out.Flush()
}

var (
	helpText  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelText = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func float(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
