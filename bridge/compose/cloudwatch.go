package compose

import (
	"context"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"

	"phoenix/bridge/awsenv"
	"phoenix/bridge/cloudwatch"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/service"
)

// publishMetrics publishes what alarms and scaling policies need, until ctx ends. It
// returns at once where cloudwatch.namespace names nothing.
func publishMetrics(ctx context.Context, cfg config.Config, loaded aws.Config, report func() service.Report,
	connected func() (int, error), log *slog.Logger) error {
	if cfg.CloudWatch.Namespace == "" {
		return nil
	}
	if !cfg.OnAWS() { // else it is loaded
		var err error
		if loaded, err = awsenv.Load(ctx, cfg); err != nil {
			return err
		}
	}
	publisher, err := cloudwatch.New(cfg.CloudWatch.Namespace, awsenv.CloudWatch(cfg, loaded).PutMetricData,
		func() cloudwatch.Values {
			return metricValues(report(), connected)
		}, log)
	if err != nil {
		return err
	}
	return publisher.Run(ctx)
}

// metricValues are the metrics that the alarms and policies of cloudformation name.
func metricValues(r service.Report, connected func() (int, error)) cloudwatch.Values {
	v := cloudwatch.Values{
		Now:   map[string]float64{"Ready": 0, "BreakerOpen": 0},
		Total: map[string]float64{"HighstatesFailed": float64(r.Counts.Ended[fleet.Erred])},
	}
	if r.Ready {
		v.Now["Ready"] = 1
	}
	if r.Engine.Breaker != "" {
		v.Now["BreakerOpen"] = 1
	}
	// A master that stops is not counted as one without minions: that would add none.
	if minions, err := connected(); err == nil {
		v.Now["Minions"] = float64(minions)
	}
	if q := r.Queue; q != nil {
		held, failing := len(q.Held), 0.0
		if c := q.Reconcile; c != nil {
			held += len(c.Held)
			if c.Error != "" || len(c.Missing) > 0 {
				failing = 1
			}
			v.Now["ComparisonFailing"] = failing
		}
		v.Now["TerminationsHeld"], v.Now["LaunchesKept"] = float64(held), float64(len(q.Kept))
	}
	return v
}
