package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"phoenix/bridge/plural"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// EC2 is as much of EC2's API as is used here.
type EC2 interface {
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput,
		...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
}

// Instance is what EC2 reports of an instance.
type Instance struct {
	ID       string
	State    types.InstanceStateName
	Launched time.Time
}

// Gone reports whether EC2 says that the instance is terminated, or is on its way.
// To be stopped, or not to be described at all, is not to be gone.
func (i Instance) Gone() bool {
	return i.State == types.InstanceStateNameShuttingDown || i.State == types.InstanceStateNameTerminated
}

const (
	// describeAtOnce is the most values that a filter of EC2 may have.
	describeAtOnce = 200
	// describePages bounds an answer that pages without end: 200 instances need
	// one page.
	describePages = 100
	// callWithin bounds a call of an API, the SDK's own retries included.
	callWithin = 30 * time.Second
)

// describe asks EC2 for instances. One that EC2 does not know, since it was
// terminated an hour ago or lives in another account or region, is absent: asked
// for with a filter, it does not turn the answer into InvalidInstanceID.NotFound.
func describe(ctx context.Context, api EC2, ids []string) (map[string]Instance, error) {
	known := map[string]Instance{}
	for chunk := range slices.Chunk(ids, describeAtOnce) {
		in := &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("instance-id"), Values: chunk}}}
		err := pages(ctx, api, in, func(i types.Instance) {
			if i.InstanceId != nil && i.State != nil {
				known[*i.InstanceId] = Instance{*i.InstanceId, i.State.Name, aws.ToTime(i.LaunchTime)}
			}
		})
		if err != nil {
			return nil, fmt.Errorf("describe %s: %w", plural.Of(len(chunk), "instance"), err)
		}
	}
	return known, nil
}

// pages calls fn with each instance that an answer of EC2 describes.
func pages(ctx context.Context, api EC2, in *ec2.DescribeInstancesInput, fn func(types.Instance)) error {
	p := ec2.NewDescribeInstancesPaginator(api, in)
	for n := 1; p.HasMorePages(); n++ {
		out, err := describePage(ctx, p)
		if err == nil && n > describePages {
			err = errors.New("pages without end")
		}
		if err != nil {
			return err
		}
		for _, r := range out.Reservations {
			for _, i := range r.Instances {
				fn(i)
			}
		}
	}
	return nil
}

func describePage(ctx context.Context, p *ec2.DescribeInstancesPaginator) (*ec2.DescribeInstancesOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	return p.NextPage(ctx)
}
