package compose

import (
	"errors"
	"maps"
	"testing"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/fleet"
	"phoenix/bridge/service"
)

// TestMetricValues: what CloudWatch is given of a report. Without a queue there is
// nothing to say of terminations, and a master that does not serve is none without
// minions.
func TestMetricValues(t *testing.T) {
	report := service.Report{Ready: true, Counts: service.Counts{Ended: map[fleet.Outcome]int64{fleet.Erred: 4}},
		Engine: service.Status{Breaker: "it is open"},
		Queue: &autoscaling.Status{Held: []string{"a"}, Kept: []string{"b", "c"},
			Reconcile: &autoscaling.Report{Held: []string{"d"}, Error: "throttled"}}}
	v := metricValues(report, func() (int, error) { return 7, nil })
	if want := map[string]float64{"Ready": 1, "Minions": 7, "TerminationsHeld": 2, "ComparisonFailing": 1,
		"LaunchesKept": 2, "BreakerOpen": 1}; !maps.Equal(v.Now, want) {
		t.Errorf("now %v, want %v", v.Now, want)
	}
	if want := map[string]float64{"HighstatesFailed": 4}; !maps.Equal(v.Total, want) {
		t.Errorf("total %v, want %v", v.Total, want)
	}
	v = metricValues(service.Report{}, func() (int, error) { return 0, errors.New("nothing listens") })
	if want := map[string]float64{"Ready": 0, "BreakerOpen": 0}; !maps.Equal(v.Now, want) {
		t.Errorf("without a master: %v", v.Now)
	}
}
