package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	sdk "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/service"
)

// loadAWS reads what environment, profile and instance say of AWS. The region is
// asked of the instance where nobody else names one.
func loadAWS(ctx context.Context, cfg config.Config) (aws.Config, error) {
	loaded, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return loaded, fmt.Errorf("read AWS configuration: %w", err)
	}
	if loaded.Region = cmp.Or(loaded.Region, cfg.DynamoDB.Region); loaded.Region != "" {
		return loaded, nil
	}
	here, err := whereAmI(ctx)
	if err != nil {
		return loaded, usageError(fmt.Errorf("find region: %w (set AWS_REGION, or dynamodb.region)", err))
	}
	loaded.Region = here.Region
	return loaded, nil
}

// engineOnAWS gives the engine what only AWS can tell: whose name is whose, and
// which key is an instance's own.
func engineOnAWS(engine *service.Config, cfg config.Config, loaded aws.Config, store fleet.Store, here place, log *slog.Logger) error {
	names, err := autoscaling.NewNames(cfg.IDFrom, instances(ec2.NewFromConfig(loaded).DescribeInstances), log)
	if err != nil {
		return usageError(fmt.Errorf("id_from: %w", err))
	}
	if names != nil {
		engine.Names = names
	}
	if engine.Admit == decide.Proven {
		if !cfg.OnDynamoDB() {
			return usageError(errors.New("admit: proven needs the proofs of store dynamodb"))
		}
		engine.Proofs = proofs{store, here}
	}
	return nil
}

// openQueue makes the AWS side of a bridge; nil if the configuration names
// neither queue nor group.
func openQueue(cfg config.Config, loaded aws.Config, store fleet.Store, left func() (int, error), told func([]fleet.Minion), decisions, log *slog.Logger) (*autoscaling.Queue, error) {
	c := autoscaling.Config{Self: cfg.InstanceID, Hooks: cfg.AutoScaling.Hooks, Left: left, Decisions: decisions,
		Told: told, Every: autoscaling.ReconcileEvery}
	if cfg.Highstate.Enabled {
		c.Attempts = cfg.Highstate.Attempts
	}
	c.Queues, c.Groups = cfg.Items()
	if len(c.Queues)+len(c.Groups) == 0 {
		return nil, nil
	}
	groups := sdk.NewFromConfig(loaded, func(o *sdk.Options) {
		o.BaseEndpoint = endpoint(cfg.AutoScaling.Endpoint, o.BaseEndpoint)
	})
	api := autoscaling.API{Groups: groups, Lifecycle: groups, EC2: instances(ec2.NewFromConfig(loaded).DescribeInstances),
		SQS: sqs.NewFromConfig(loaded, func(o *sqs.Options) { o.BaseEndpoint = endpoint(cfg.SQS.Endpoint, o.BaseEndpoint) })}
	return autoscaling.New(c, store, api, log)
}

// unhealthy says to AutoScaling that this instance is to be replaced. A grace period
// after its launch does not keep it: it has served before.
func unhealthy(cfg config.Config, loaded aws.Config) func(context.Context) error {
	groups := sdk.NewFromConfig(loaded, func(o *sdk.Options) {
		o.BaseEndpoint = endpoint(cfg.AutoScaling.Endpoint, o.BaseEndpoint)
	})
	return func(ctx context.Context) error {
		_, err := groups.SetInstanceHealth(ctx, &sdk.SetInstanceHealthInput{InstanceId: &cfg.InstanceID,
			HealthStatus: aws.String("Unhealthy"), ShouldRespectGracePeriod: aws.Bool(false)})
		if err != nil {
			return fmt.Errorf("call %s unhealthy: %w", cfg.InstanceID, err)
		}
		return nil
	}
}

// instances is as much of EC2 as is asked. A client within an interface, or within
// a struct in one, would bring all of its 700 calls into the binary, 30 MB: the
// linker drops no method that the templates of help texts might call by its name.
type instances func(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)

// DescribeInstances implements autoscaling.EC2.
func (f instances) DescribeInstances(ctx context.Context, in *ec2.DescribeInstancesInput, options ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	return f(ctx, in, options...)
}

func endpoint(own string, given *string) *string {
	if own != "" {
		return &own
	}
	return given // of the variables and the profile
}

// proofs reads what instances wrote under their ARNs, by their ids.
type proofs struct {
	store fleet.Store
	here  place
}

// Proofs implements service.Proofs.
func (p proofs) Proofs(ctx context.Context, instanceIDs []string) (map[string]fleet.Proof, error) {
	arns := make([]string, len(instanceIDs))
	for i, id := range instanceIDs {
		arns[i] = p.here.ARN(id)
	}
	found, err := p.store.Proofs(ctx, arns)
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
