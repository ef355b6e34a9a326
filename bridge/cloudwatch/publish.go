// Package cloudwatch publishes the few metrics of a bridge that alarms and scaling
// policies need. Everything else is on /metrics.
package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

const (
	// every is the shortest period that CloudWatch stores for metrics of this kind.
	// Each call is paid for.
	every = time.Minute
	// putWithin bounds one call. What is not published in time is published with the
	// next call, or not at all.
	putWithin = 15 * time.Second
)

// Put is the one call of CloudWatch's API. A client within an interface would bring
// all of its calls into the binary.
type Put func(context.Context, *cloudwatch.PutMetricDataInput,
	...func(*cloudwatch.Options)) (*cloudwatch.PutMetricDataOutput, error)

// Values are the values of metrics by their names. Total are counters since the start
// of the bridge: what is published is their growth since the last call that succeeded.
type Values struct {
	Now   map[string]float64
	Total map[string]float64
}

// Publisher publishes once a minute.
type Publisher struct {
	namespace string
	put       Put
	read      func() Values
	log       *slog.Logger

	published map[string]float64 // totals as of the last call that succeeded
	failing   bool
}

// New returns a Publisher that publishes nothing before Run. The metrics have no
// dimensions: CloudWatch aggregates the values of all masters of a namespace.
func New(namespace string, put Put, read func() Values, log *slog.Logger) (*Publisher, error) {
	if put == nil || read == nil || log == nil {
		return nil, errors.New("publish metrics: a part is missing")
	}
	if err := CheckNamespace(namespace); err != nil {
		return nil, fmt.Errorf("publish metrics: %w", err)
	}
	return &Publisher{namespace: namespace, put: put, read: read, log: log, published: map[string]float64{}}, nil
}

// CheckNamespace returns an error for a name that CloudWatch refuses.
func CheckNamespace(name string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/#:-"
	switch {
	case name == "" || len(name) > 255:
		return fmt.Errorf("%q has not 1 to 255 characters", name)
	case strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(allowed, r) }):
		return fmt.Errorf("%q has characters other than letters, digits and ._/#:-", name)
	case strings.HasPrefix(name, "AWS/"):
		return fmt.Errorf("%q begins with AWS/, which CloudWatch reserves", name)
	}
	return nil
}

// Run publishes until ctx ends. A call that fails is logged once, and changes nothing
// else.
func (p *Publisher) Run(ctx context.Context) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			p.publish(ctx)
		}
	}
}

func (p *Publisher) publish(ctx context.Context) {
	values := p.read()
	now := time.Now()
	var data []types.MetricDatum
	add := func(name string, value float64) {
		data = append(data, types.MetricDatum{MetricName: &name, Value: &value, Timestamp: &now,
			Unit: types.StandardUnitCount})
	}
	for name, value := range values.Now {
		add(name, value)
	}
	for name, total := range values.Total {
		add(name, total-p.published[name])
	}
	ctx, cancel := context.WithTimeout(ctx, putWithin)
	defer cancel()
	// One attempt: a further one would be a second call within the minute.
	_, err := p.put(ctx, &cloudwatch.PutMetricDataInput{Namespace: &p.namespace, MetricData: data},
		func(o *cloudwatch.Options) { o.Retryer = aws.NopRetryer{} })
	if err != nil {
		if !p.failing && ctx.Err() != context.Canceled {
			p.log.Warn("metrics not published; alarms and scaling policies lack them", "namespace",
				p.namespace, "err", err)
		}
		p.failing = true
		return
	}
	if p.failing {
		p.log.Info("metrics published again", "namespace", p.namespace)
	}
	p.failing, p.published = false, values.Total
}
