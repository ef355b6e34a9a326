// Package metrics has the histograms of a bridge, which are observed where the work
// is done; what a bridge counts, and what it is, package service reports.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Durations are the histograms. A nil *Durations observes nothing.
type Durations struct {
	accepted, connected, done, message, resync prometheus.Histogram
	master, store                              *prometheus.HistogramVec
}

// Buckets, in seconds. They span what is measured: seconds to hours of a minion's
// start, milliseconds to a minute of a call.
var (
	startBuckets  = []float64{1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600}
	runBuckets    = []float64{5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200}
	ageBuckets    = []float64{0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600, 86400}
	resyncBuckets = []float64{0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120}
	callBuckets   = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60}
)

// NewDurations makes the histograms.
func NewDurations() *Durations {
	histogram := func(name string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help[name], Buckets: buckets})
	}
	calls := func(name string) *prometheus.HistogramVec {
		opts := prometheus.HistogramOpts{Name: name, Help: help[name], Buckets: callBuckets}
		return prometheus.NewHistogramVec(opts, []string{"call"})
	}
	return &Durations{
		accepted: histogram(launchToAccepted, startBuckets), connected: histogram(acceptedToConnected, startBuckets),
		done: histogram(connectedToDone, runBuckets), message: histogram(messageAge, ageBuckets),
		resync: histogram(resyncDuration, resyncBuckets), master: calls(masterCalls), store: calls(storeCalls),
	}
}

// Names of the histograms.
const (
	launchToAccepted    = "phoenix_launch_to_accepted_seconds"
	acceptedToConnected = "phoenix_accepted_to_connected_seconds"
	connectedToDone     = "phoenix_connected_to_done_seconds"
	messageAge          = "phoenix_message_age_seconds"
	resyncDuration      = "phoenix_resync_duration_seconds"
	masterCalls         = "phoenix_master_call_duration_seconds"
	storeCalls          = "phoenix_store_call_duration_seconds"
)

var help = map[string]string{
	launchToAccepted:    "Time from the row that lists a minion to the first acceptance of its key, as far as the clocks of masters agree.",
	acceptedToConnected: "Time from the acceptance of a key to the first sign of its minion.",
	connectedToDone:     "Time from the first sign of a minion to the return of its first highstate, failed ones included.",
	messageAge:          "Age of the messages of the queues when they are received, by the clocks of SQS and of this master.",
	resyncDuration:      "Duration of a full comparison of keys and fleet.",
	masterCalls:         "Duration of the calls of the Salt master, failed ones included.",
	storeCalls:          "Duration of the calls of the store, failed ones included.",
}

// Histogram describes one of the histograms.
type Histogram struct{ Name, Label, Help string }

// Histograms describes all of them, in the order of the documentation.
func Histograms() []Histogram {
	var all []Histogram
	for _, name := range []string{launchToAccepted, acceptedToConnected, connectedToDone, messageAge, resyncDuration,
		masterCalls, storeCalls} {
		h := Histogram{Name: name, Help: help[name]}
		if name == masterCalls || name == storeCalls {
			h.Label = "call"
		}
		all = append(all, h)
	}
	return all
}

// Describe implements prometheus.Collector.
func (d *Durations) Describe(out chan<- *prometheus.Desc) {
	for _, c := range d.all() {
		c.Describe(out)
	}
}

// Collect implements prometheus.Collector.
func (d *Durations) Collect(out chan<- prometheus.Metric) {
	for _, c := range d.all() {
		c.Collect(out)
	}
}

func (d *Durations) all() []prometheus.Collector {
	return []prometheus.Collector{d.accepted, d.connected, d.done, d.message, d.resync, d.master, d.store}
}

// observe leaves out what is negative: two hosts' clocks may disagree.
func observe(o prometheus.Observer, took time.Duration) { o.Observe(max(took, 0).Seconds()) }

// Accepted observes how long after its launch a minion's key was accepted.
func (d *Durations) Accepted(took time.Duration) {
	if d != nil {
		observe(d.accepted, took)
	}
}

// Connected observes how long after its key a minion connected.
func (d *Durations) Connected(took time.Duration) {
	if d != nil {
		observe(d.connected, took)
	}
}

// Done observes how long after it connected a minion's first highstate returned.
func (d *Durations) Done(took time.Duration) {
	if d != nil {
		observe(d.done, took)
	}
}

// Message observes the age of a message.
func (d *Durations) Message(age time.Duration) {
	if d != nil {
		observe(d.message, age)
	}
}

// Resync observes a full comparison of keys and fleet.
func (d *Durations) Resync(took time.Duration) {
	if d != nil {
		observe(d.resync, took)
	}
}

// Master observes a call of the Salt master that began at begun.
func (d *Durations) Master(call string, begun time.Time) {
	if d != nil {
		observe(d.master.WithLabelValues(call), time.Since(begun))
	}
}

// Store observes a call of the store that began at begun.
func (d *Durations) Store(call string, begun time.Time) {
	if d != nil {
		observe(d.store.WithLabelValues(call), time.Since(begun))
	}
}
