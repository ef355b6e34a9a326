package cli

import (
	"context"
	"errors"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sdk "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/awsenv"
	"phoenix/bridge/awserr"
	"phoenix/bridge/decide"
	"phoenix/bridge/doctor"
	"phoenix/bridge/fleet/dynamo"
	"phoenix/bridge/identity"
)

// awsWithin bounds one request of doctor's; it is tried once.
const awsWithin = 5 * time.Second

// lookAtAWS tries what a bridge, or an agent, does on AWS, so that it changes
// nothing there.
func (v *visit) lookAtAWS(ctx context.Context, asMaster bool) {
	if v.store != nil {
		if tables, ok := v.store.Store.(*dynamo.Store); ok {
			v.lookAtTables(ctx, tables, asMaster)
		}
	}
	if asMaster && len(v.cfg.SQS.Queues)+len(v.cfg.AutoScaling.Groups) > 0 {
		loaded, err := awsenv.Load(ctx, v.cfg)
		if err != nil {
			v.fleet.Calls = append(v.fleet.Calls, doctor.Call{Action: "sqs:GetQueueUrl", On: "queues", Err: err})
		} else {
			loaded.HTTPClient = &v.dates
			loaded.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
			v.lookAtQueues(ctx, loaded)
			v.lookAtGroups(ctx, loaded)
		}
	}
	off, known := v.dates.off()
	_, err := exec.LookPath("chronyc")
	v.fleet.Clock = &doctor.Clock{Off: off, Chrony: err == nil}
	if !known {
		v.fleet.Clock.Err = errors.New("AWS has not answered")
	}
}

func (v *visit) lookAtTables(ctx context.Context, tables *dynamo.Store, asMaster bool) {
	var tried []dynamo.Tried
	if asMaster {
		for _, t := range tables.Inspect(ctx) {
			v.fleet.Tables = append(v.fleet.Tables, doctor.Table{Name: t.Name, Err: t.Err, Faults: t.Faults})
		}
		tried = tables.TryAsMaster(ctx)
	} else {
		// Off AWS there is no ARN, and nobody's proof is asked for.
		arn, err := instanceARN(ctx)
		var wrote string
		tried, wrote = tables.TryAsMinion(ctx, arn)
		if err == nil || v.cfg.Admit == string(decide.Proven) {
			v.fleet.Proof = &doctor.Proof{Wrote: wrote, Err: err}
		}
	}
	for _, t := range tried {
		v.fleet.Calls = append(v.fleet.Calls, doctor.Call{Action: t.Action, On: t.On, Denied: t.Denied, Err: t.Err})
	}
}

func (v *visit) lookAtQueues(ctx context.Context, loaded aws.Config) {
	queues, _ := v.cfg.Items()
	client := awsenv.SQS(v.cfg, loaded)
	for _, q := range queues {
		name := q.Name[strings.LastIndexByte(q.Name, '/')+1:] // of its URL, too
		v.reached(ctx, &v.fleet.Queues, q, "sqs:GetQueueUrl", func(ctx context.Context) error {
			_, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
			return err
		})
	}
}

func (v *visit) lookAtGroups(ctx context.Context, loaded aws.Config) {
	_, groups := v.cfg.Items()
	client := awsenv.AutoScaling(v.cfg, loaded)
	for _, g := range groups {
		v.reached(ctx, &v.fleet.Groups, g, "autoscaling:DescribeAutoScalingGroups", func(ctx context.Context) error {
			out, err := client.DescribeAutoScalingGroups(ctx,
				&sdk.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{g.Name}})
			if err == nil && len(out.AutoScalingGroups) == 0 {
				err = errors.New("AutoScaling knows no such group")
			}
			return err
		})
	}
	// EC2 says by this error that it would have answered.
	bounded, cancel := context.WithTimeout(ctx, awsWithin)
	defer cancel()
	_, err := ec2.NewFromConfig(loaded).DescribeInstances(bounded, &ec2.DescribeInstancesInput{DryRun: aws.Bool(true)})
	if awserr.Code(err) == "DryRunOperation" {
		err = nil
	}
	v.called("ec2:DescribeInstances", "instances", err)
}

// lookAtIdentity reads the key that the masters share in S3.
func (v *visit) lookAtIdentity(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, awsWithin)
	defer cancel()
	call := doctor.Call{Action: "s3:GetObject", On: "s3://" + v.cfg.Identity.Bucket + "/" + v.cfg.Identity.Key}
	bucket, err := openBucket(ctx, v.cfg)
	if err == nil {
		var shared identity.Identity
		if shared, _, err = bucket.Get(ctx); err == nil {
			v.fleet.Masters = append(v.fleet.Masters,
				doctor.MasterKey{InstanceID: bucket.String(), Digest: shared.Digest})
		}
	}
	switch {
	case errors.Is(err, identity.ErrNone): // the first master makes it
	case awserr.Of(err) == awserr.Denied:
		call.Denied = true
	default:
		call.Err = err
	}
	v.fleet.Calls = append(v.fleet.Calls, call)
}

// reached asks after one queue or group.
func (v *visit) reached(ctx context.Context, list *[]doctor.Reached, item autoscaling.Item, action string,
	ask func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, awsWithin)
	defer cancel()
	err := ask(ctx)
	if awserr.Of(err) == awserr.Denied {
		v.called(action, item.Name, err)
		return
	}
	if err != nil {
		err = lastWords(err)
	}
	*list = append(*list, doctor.Reached{Name: item.Name, Err: err})
}

// called notes whether a call is allowed.
func (v *visit) called(action, on string, err error) {
	c := doctor.Call{Action: action, On: on, Denied: awserr.Of(err) == awserr.Denied}
	if err != nil && !c.Denied {
		c.Err = lastWords(err)
	}
	v.fleet.Calls = append(v.fleet.Calls, c)
}

// lastWords of an error of the SDK, which repeats each of its layers.
func lastWords(err error) error {
	text := err.Error()
	if i := strings.LastIndex(text, "exceeded maximum number of attempts"); i >= 0 {
		text = text[i:]
	}
	return errors.New(text)
}

// dates sends requests, and compares the date of each answer, an error's too, with
// this machine's clock.
type dates struct {
	client awshttp.BuildableClient

	mu    sync.Mutex
	least time.Duration
	known bool
}

// Do implements aws.HTTPClient.
func (d *dates) Do(request *http.Request) (*http.Response, error) {
	begun := time.Now()
	response, err := d.client.Do(request)
	if err == nil {
		took := time.Since(begun)
		if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
			d.take(begun.Add(took / 2).Sub(date.Add(time.Second / 2))) // it has whole seconds
		}
	}
	return response, err
}

func (d *dates) take(off time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.known || off.Abs() < d.least.Abs() {
		d.least, d.known = off, true
	}
}

func (d *dates) off() (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.least, d.known
}
