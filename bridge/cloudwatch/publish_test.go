package cloudwatch

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	"github.com/aws/smithy-go/transport/http/protocol/awsquery"

	"phoenix/lab/moto"
)

// TestPublishOnceAMinute: one call a minute, whatever CloudWatch answers and however
// long it takes. The growth of a counter that a failed call had is in the next.
func TestPublishOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []map[string]float64
		answers := map[int]error{1: errors.New("throttled"), 2: errors.New("throttled")}
		put := func(ctx context.Context, in *cloudwatch.PutMetricDataInput,
			_ ...func(*cloudwatch.Options)) (*cloudwatch.PutMetricDataOutput, error) {
			got := map[string]float64{}
			for _, d := range in.MetricData {
				got[*d.MetricName] = *d.Value
			}
			calls = append(calls, got)
			if len(calls) == 5 {
				<-ctx.Done() // it hangs
				return nil, ctx.Err()
			}
			return nil, answers[len(calls)-1]
		}
		total := 0.0
		read := func() Values {
			total += 2
			return Values{Now: map[string]float64{"Ready": 1}, Total: map[string]float64{"Failed": total}}
		}
		var log bytes.Buffer
		p, err := New("Phoenix/lab", put, read, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = p.Run(ctx) }()
		time.Sleep(6*time.Minute + time.Second)
		stop()
		synctest.Wait()
		var failed []float64
		for _, c := range calls {
			if c["Ready"] != 1 {
				t.Errorf("published %v", c)
			}
			failed = append(failed, c["Failed"])
		}
		// The second and third fail, and the fifth hangs.
		want := []float64{2, 2, 4, 6, 2, 4}
		if len(failed) != len(want) {
			t.Fatalf("%d calls in six minutes: %v", len(failed), failed)
		}
		for i := range want {
			if failed[i] != want[i] {
				t.Fatalf("growth %v, want %v", failed, want)
			}
		}
		if n := strings.Count(log.String(), "not published"); n != 2 {
			t.Errorf("logged %d times, want once for each time that it began to fail:\n%s", n, log.String())
		}
	})
}

// TestRealRequest: the SDK's request is one that CloudWatch, here moto's, stores under
// the namespace.
func TestRealRequest(t *testing.T) {
	cfg := moto.Start(t)
	// moto understands CloudWatch's protocol before CBOR, which CloudWatch keeps.
	client := cloudwatch.NewFromConfig(cfg, func(o *cloudwatch.Options) {
		o.Protocol = awsquery.New(schemas.GraniteServiceVersion20100801)
	})
	p, err := New("Phoenix/lab", client.PutMetricData, func() Values {
		return Values{Now: map[string]float64{"Minions": 7}, Total: map[string]float64{"HighstatesFailed": 3}}
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p.publish(t.Context())
	out, err := client.ListMetrics(t.Context(), &cloudwatch.ListMetricsInput{Namespace: aws.String("Phoenix/lab")})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range out.Metrics {
		names[*m.MetricName] = len(m.Dimensions) == 0
	}
	if len(names) != 2 || !names["Minions"] || !names["HighstatesFailed"] {
		t.Errorf("CloudWatch has %v", names)
	}
}

func TestCheckNamespace(t *testing.T) {
	for name, good := range map[string]bool{"Phoenix/phoenix": true, "a": true, "": false, "AWS/EC2": false,
		"a b": false, "é": false, strings.Repeat("a", 256): false} {
		if err := CheckNamespace(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
