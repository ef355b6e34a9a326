package awsenv

import (
	"cmp"
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/dynamo"
)

// Load reads the AWS configuration of this process from the environment and the
// profile. The region is that of the instance where nothing else names one.
func Load(ctx context.Context, cfg config.Config) (aws.Config, error) {
	loaded, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return loaded, fmt.Errorf("read AWS configuration: %w", err)
	}
	if loaded.Region = cmp.Or(loaded.Region, cfg.DynamoDB.Region); loaded.Region != "" {
		return loaded, nil
	}
	here, err := InstanceIdentity(ctx)
	if err != nil {
		return loaded, config.Invalid(fmt.Errorf("find region: %w (set AWS_REGION, or dynamodb.region)", err))
	}
	loaded.Region = here.Region
	return loaded, nil
}

// SetUnhealthy returns a function that has AutoScaling replace this instance. It
// overrides the grace period after a launch: the instance has served before.
func SetUnhealthy(cfg config.Config, loaded aws.Config) func(context.Context) error {
	groups := AutoScaling(cfg, loaded)
	return func(ctx context.Context) error {
		_, err := groups.SetInstanceHealth(ctx, &autoscaling.SetInstanceHealthInput{InstanceId: &cfg.InstanceID,
			HealthStatus: aws.String("Unhealthy"), ShouldRespectGracePeriod: aws.Bool(false)})
		if err != nil {
			return fmt.Errorf("call %s unhealthy: %w", cfg.InstanceID, err)
		}
		return nil
	}
}

// DescribeInstancesFunc is the one call of EC2 that is used. A client within an
// interface, or within a struct in one, would bring all of its 700 calls into the
// binary, 30 MB: the linker drops no method that the templates of help texts might
// call by its name.
type DescribeInstancesFunc func(context.Context, *ec2.DescribeInstancesInput,
	...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)

// DescribeInstances implements autoscaling.EC2.
func (f DescribeInstancesFunc) DescribeInstances(ctx context.Context, in *ec2.DescribeInstancesInput,
	options ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	return f(ctx, in, options...)
}

// EC2 returns the client of EC2.
func EC2(loaded aws.Config) DescribeInstancesFunc {
	return ec2.NewFromConfig(loaded).DescribeInstances
}

// AutoScaling returns the client of AutoScaling.
func AutoScaling(cfg config.Config, loaded aws.Config) *autoscaling.Client {
	return autoscaling.NewFromConfig(loaded, func(o *autoscaling.Options) {
		o.BaseEndpoint = endpoint(cfg.AutoScaling.Endpoint, o.BaseEndpoint)
	})
}

// CloudWatch returns the client of CloudWatch.
func CloudWatch(cfg config.Config, loaded aws.Config) *cloudwatch.Client {
	return cloudwatch.NewFromConfig(loaded, func(o *cloudwatch.Options) {
		o.BaseEndpoint = endpoint(cfg.CloudWatch.Endpoint, o.BaseEndpoint)
	})
}

// SQS returns the client of SQS.
func SQS(cfg config.Config, loaded aws.Config) *sqs.Client {
	return sqs.NewFromConfig(loaded,
		func(o *sqs.Options) { o.BaseEndpoint = endpoint(cfg.SQS.Endpoint, o.BaseEndpoint) })
}

// endpoint returns the configured endpoint, and else that of the environment or the
// profile.
func endpoint(own string, given *string) *string {
	if own != "" {
		return &own
	}
	return given
}

// Tables returns where the store is in DynamoDB.
func Tables(ctx context.Context, c config.Config) (dynamo.Config, error) {
	loaded, err := Load(ctx, c)
	if err != nil {
		return dynamo.Config{}, err
	}
	d := c.DynamoDB
	return dynamo.Config{Region: cmp.Or(d.Region, loaded.Region), Endpoint: d.Endpoint,
		MinionsTable: d.MinionsTable, MastersTable: d.MastersTable, ProofsTable: d.ProofsTable}, nil
}

// Proofs reads what instances wrote of their keys under their ARNs, by their ids.
type Proofs struct {
	Store fleet.Store
	Here  Identity
}

// Proofs implements service.Proofs.
func (p Proofs) Proofs(ctx context.Context, instanceIDs []string) (map[string]fleet.Proof, error) {
	arns := make([]string, len(instanceIDs))
	for i, id := range instanceIDs {
		arns[i] = p.Here.ARN(id)
	}
	found, err := p.Store.Proofs(ctx, arns)
	if err != nil {
		return nil, err
	}
	out := make(map[string]fleet.Proof, len(found))
	for i, id := range instanceIDs {
		if proof := found[arns[i]]; proof.KeySHA256 != "" {
			out[id] = proof
		}
	}
	return out, nil
}
