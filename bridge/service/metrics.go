package service

import (
	"slices"
	"strings"
	"time"

	"phoenix/bridge/metrics"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric is one that the bridge serves; docs/metrics.md has them all.
type Metric struct {
	Name  string
	Type  string // counter, gauge or histogram, as Prometheus has it
	Label string // empty: none
	Help  string

	// values returns the value for each value of the label; under "" where there is
	// none. A metric without values is left out. Histograms have none of their own.
	values func(r Report, now time.Time) map[string]float64
}

// Metrics returns all there are.
func Metrics() []Metric {
	all := slices.Concat(reported, relayMetrics)
	for _, h := range metrics.Histograms() {
		all = append(all, Metric{Name: h.Name, Type: "histogram", Label: h.Label, Help: h.Help})
	}
	return all
}

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

var reported = []Metric{
	{"phoenix_build_info", "gauge", "version", "The version of phoenix; always 1.",
		func(r Report, _ time.Time) map[string]float64 {
			return map[string]float64{r.Version: 1}
		}},
	{"phoenix_start_time_seconds", "gauge", "", "When the bridge was started, in seconds since 1970.",
		func(r Report, _ time.Time) map[string]float64 {
			return one(float64(r.Started.UnixMilli()) / 1000)
		}},
	{"phoenix_ready", "gauge", "", "1 if minions may be sent to this master.",
		func(r Report, _ time.Time) map[string]float64 { return truth(r.Ready) }},
	{"phoenix_proof_age_seconds", "gauge", "",
		"Seconds since the master was last proven to serve: a worker answered, and the event bus was connected.",
		func(r Report, now time.Time) map[string]float64 { return age(r.Proven, now) }},
	{"phoenix_draining", "gauge", "", "1 if this master drains.",
		func(r Report, _ time.Time) map[string]float64 { return truth(r.Master.Draining) }},
	{"phoenix_store_reached", "gauge", "", "1 if the heartbeat is written to the store.",
		func(r Report, _ time.Time) map[string]float64 { return truth(r.StoreReached) }},
	{"phoenix_heartbeat_age_seconds", "gauge", "", "Seconds since the last heartbeat that reached the store.",
		func(r Report, now time.Time) map[string]float64 { return age(r.Beat, now) }},
	{"phoenix_store_failures_total", "counter", "", "Calls of the store that failed.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.StoreFailures) }},

	{"phoenix_bus_connected", "gauge", "", "1 if the master's event bus is connected.",
		func(r Report, _ time.Time) map[string]float64 { return truth(r.Bus.Connected) }},
	{"phoenix_bus_events_total", "counter", "", "Events read.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Bus.Events) }},
	{"phoenix_bus_malformed_total", "counter", "", "Events that could not be decoded.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Bus.Malformed) }},
	{"phoenix_bus_gaps_total", "counter", "",
		"Times that events may have been missed, including before the first connection.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Bus.Gaps) }},

	{"phoenix_keys_accepted_total", "counter", "", "Keys accepted.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.KeysAccepted) }},
	{"phoenix_keys_adopted_total", "counter", "", "Minions adopted, whose keys were accepted before.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.KeysAdopted) }},
	{"phoenix_keys_refused_total", "counter", "",
		"Decisions not to accept a key; a decision that is repeated for each auth request counts once.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.KeysRefused) }},
	{"phoenix_keys_unlinked_total", "counter", "", "Pending keys removed from the key store.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.KeysUnlinked) }},
	{"phoenix_keys_deleted_total", "counter", "", "Terminated minions whose keys were deleted.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.KeysDeleted) }},
	{"phoenix_keys_to_delete", "gauge", "", "Minions whose keys wait to be deleted.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Deletes) }},
	{"phoenix_keys", "gauge", "standing", "Ids in this master's key store by state, at the last comparison.",
		func(r Report, _ time.Time) map[string]float64 { return by(r.Engine.Census) }},

	{"phoenix_highstates_published_total", "counter", "", "First highstates sent.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.Published) }},
	{"phoenix_highstates_taken_over_total", "counter", "", "First highstates taken over from another master.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.TakenOver) }},
	{"phoenix_highstates_ended_total", "counter", "outcome",
		"First highstates that ended: succeeded, failed, busy (not an attempt) or vanished (lost on the minion).",
		func(r Report, _ time.Time) map[string]float64 { return by(r.Counts.Ended) }},
	{"phoenix_highstates_running", "gauge", "", "First highstates that this master runs.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Running) }},
	{"phoenix_highstates_queued", "gauge", "", "First highstates that wait for a slot.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Queued) }},
	{"phoenix_highstates_blocked", "gauge", "",
		"First highstates that wait for another state run of their minion to end.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Blocked) }},
	{"phoenix_highstates_halted", "gauge", "", "First highstates that wait until the circuit breaker is closed.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Halted) }},
	{"phoenix_highstate_breaker_open", "gauge", "",
		"1 while the circuit breaker is open: no new first highstate starts (highstate.breaker).",
		func(r Report, _ time.Time) map[string]float64 { return truth(r.Engine.Breaker != "") }},
	{"phoenix_highstates_wanted", "gauge", "", "Minions of this master whose first highstate is wanted or running.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Tracked) }},

	{"phoenix_work_held_up", "gauge", "", "1 while the store or the master prevents work.",
		func(r Report, _ time.Time) map[string]float64 { return truth(r.Engine.Fault != "") }},
	{"phoenix_work_held_up_total", "counter", "", "Times that work failed and was retried later.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.HeldUp) }},
	{"phoenix_stage_held_up", "gauge", "stage", "1 for each kind of work that cannot be done now; the others continue.",
		func(r Report, _ time.Time) map[string]float64 {
			out := map[string]float64{}
			for name := range r.Engine.Stages {
				out[name] = 1
			}
			return out
		}},
	{"phoenix_minions_passed_over", "gauge", "kind",
		"Minions that are skipped or unusual, while all others are served: row (cannot be decoded), key (cannot be read or written), entry (a file among the keys that is no key), stuck (cannot be deleted), stamp (the row's time is ahead of this clock), removed (the key was deleted here by hand), other (the accepted key is not the bound one).",
		func(r Report, _ time.Time) map[string]float64 {
			return by(r.Engine.Problem)
		}},
	{"phoenix_keys_written_total", "counter", "",
		"Known keys written as accepted before their minions sent an auth request.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Counts.KeysWritten) }},
	{"phoenix_work_waiting", "gauge", "", "Ids and returns that wait to be processed.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Waiting) }},
	{"phoenix_work_dropped_total", "counter", "",
		"Events dropped because too many waited; everything is compared afterwards.",
		func(r Report, _ time.Time) map[string]float64 { return number(r.Engine.Dropped) }},
	{"phoenix_compare_duration_seconds", "gauge", "", "Duration of the last comparison of keys and fleet.",
		func(r Report, _ time.Time) map[string]float64 {
			if !r.Engine.Resynced {
				return nil
			}
			return one(r.Engine.ResyncTook.Seconds())
		}},

	{"phoenix_queue_messages_total", "counter", "class",
		"Messages of the queues: applied, passed_over (no effect), refuted (EC2 reports that the instance runs), malformed, or transient (will be received again).",
		func(r Report, _ time.Time) map[string]float64 {
			if r.Queue == nil || r.Queue.Messages == nil {
				return nil
			}
			m := r.Queue.Messages
			return map[string]float64{"applied": float64(m.Applied), "passed_over": float64(m.Ignored),
				"refuted": float64(m.Refuted), "malformed": float64(m.Malformed), "transient": float64(m.Transient)}
		}},
	{"phoenix_hooks_waiting", "gauge", "", "Instances that wait in a lifecycle hook.",
		func(r Report, _ time.Time) map[string]float64 {
			if r.Queue == nil {
				return nil
			}
			return number(r.Queue.Hooks)
		}},
	{"phoenix_terminations_held", "gauge", "",
		"Terminations that wait: over the termination limit, or not yet confirmed by EC2.",
		func(r Report, _ time.Time) map[string]float64 {
			if r.Queue == nil {
				return nil
			}
			n := len(r.Queue.Held)
			if r.Queue.Reconcile != nil {
				n += len(r.Queue.Reconcile.Held)
			}
			return number(n)
		}},
	{"phoenix_terminations_refuted", "gauge", "",
		"Instances that messages of the last day reported as terminated, and that run according to EC2.",
		func(r Report, _ time.Time) map[string]float64 {
			if r.Queue == nil {
				return nil
			}
			return number(len(r.Queue.Refuted))
		}},
	{"phoenix_autoscaling_age_seconds", "gauge", "", "Seconds since the fleet was last compared with AutoScaling.",
		func(r Report, now time.Time) map[string]float64 {
			if r.Queue == nil || r.Queue.Reconcile == nil {
				return nil
			}
			return age(r.Queue.Reconcile.Passed, now)
		}},
}

// Collector makes Prometheus's metrics of the reports of a bridge.
type Collector struct{ report func() Report }

// NewCollector returns a collector that calls report at each scrape.
func NewCollector(report func() Report) *Collector { return &Collector{report} }

var valueTypes = map[string]prometheus.ValueType{"counter": prometheus.CounterValue, "gauge": prometheus.GaugeValue}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range slices.Concat(reported, relayMetrics) {
		out <- m.desc()
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	report, now := c.report(), time.Now()
	for _, m := range slices.Concat(reported, relayMetrics) {
		for label, value := range m.values(report, now) {
			var labels []string
			if m.Label != "" {
				labels = []string{strings.ToValidUTF8(label, "\ufffd")}
			}
			out <- prometheus.MustNewConstMetric(m.desc(), valueTypes[m.Type], value, labels...)
		}
	}
}

func (m Metric) desc() *prometheus.Desc {
	var labels []string
	if m.Label != "" {
		labels = []string{m.Label}
	}
	return prometheus.NewDesc(m.Name, m.Help, labels, nil)
}
