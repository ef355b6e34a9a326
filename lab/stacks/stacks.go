// Package stacks makes the stacks of cloudformation/ for tests, by moto's
// CloudFormation.
//
// It makes what the templates say and answers for it as AWS would, with these
// differences: it checks no IAM, sends nothing by EventBridge when a group starts
// or ends an instance, and runs no lifecycle hook. Instances are names.
package stacks

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"phoenix/lab"
)

// Base and Fleet are the stacks' names; groups begin with the first.
const (
	Base  = "phoenix"
	Fleet = "phoenix-fleet"
)

const (
	// image is the SSM parameter that names the image of both groups.
	image = "/lab/image"
	// defaultImage is the template's default. moto reads a default also where another
	// value is given, and AWS's own parameters exist in some of its regions only.
	defaultImage = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
)

// Stack is one stack that was made.
type Stack struct {
	Outputs   map[string]string
	Resources map[string]string // what each resource of the template became
}

// CreateBase makes the stack of base.yaml.
func CreateBase(t testing.TB, cfg aws.Config) Stack {
	t.Helper()
	return CreateNamedBase(t, cfg, Base, nil)
}

// CreateNamedBase is CreateBase for another fleet, or with parameters.
func CreateNamedBase(t testing.TB, cfg aws.Config, name string, parameters map[string]string) Stack {
	t.Helper()
	return create(t, cfg, name, "base.yaml", parameters)
}

// CreateFleet makes the stack of fleet.yaml beside it, with more parameters.
func CreateFleet(t testing.TB, cfg aws.Config, more map[string]string) Stack {
	t.Helper()
	return CreateNamedFleet(t, cfg, Fleet, more)
}

// CreateNamedFleet is CreateFleet for a further stack on the same base.
func CreateNamedFleet(t testing.TB, cfg aws.Config, name string, more map[string]string) Stack {
	t.Helper()
	ctx := context.Background()
	calls := ec2.NewFromConfig(cfg)
	images, err := calls.DescribeImages(ctx, &ec2.DescribeImagesInput{MaxResults: aws.Int32(5)})
	if err != nil {
		t.Fatalf("find image: %v", err)
	}
	_, err = ssm.NewFromConfig(cfg).PutParameter(ctx, &ssm.PutParameterInput{Name: aws.String(image),
		Type: ssmtypes.ParameterTypeString, Value: images.Images[0].ImageId, Overwrite: aws.Bool(true)})
	if err != nil {
		t.Fatalf("name image: %v", err)
	}
	parameters := map[string]string{"ImageId": image, "PhoenixPackage": "phoenix.deb",
		"PhoenixSHA256": "0000000000000000000000000000000000000000000000000000000000000000"}
	maps.Copy(parameters, more)
	return create(t, cfg, name, "fleet.yaml", parameters)
}

func create(t testing.TB, cfg aws.Config, name, file string, parameters map[string]string) Stack {
	t.Helper()
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "cloudformation", file))
	if err != nil {
		t.Fatal(err)
	}
	var given []types.Parameter
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		given = append(given, types.Parameter{ParameterKey: aws.String(key),
			ParameterValue: aws.String(parameters[key])})
	}
	template := strings.Replace(string(text), "Default: "+defaultImage, "Default: "+image, 1)
	ctx := context.Background()
	// Once: a stack that was half made is there already at the second try.
	calls := cloudformation.NewFromConfig(cfg, func(o *cloudformation.Options) { o.RetryMaxAttempts = 1 })
	_, err = calls.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: &name, TemplateBody: &template,
		Parameters: given, Capabilities: []types.Capability{types.CapabilityCapabilityIam}})
	if err != nil {
		t.Fatalf("create stack %s: %v", name, err)
	}
	made, err := calls.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &name})
	if err != nil {
		t.Fatalf("describe stack %s: %v", name, err)
	}
	if s := made.Stacks[0]; s.StackStatus != types.StackStatusCreateComplete {
		t.Fatalf("stack %s: %s, %s", name, s.StackStatus, aws.ToString(s.StackStatusReason))
	}
	stack := Stack{Outputs: map[string]string{}, Resources: map[string]string{}}
	for _, o := range made.Stacks[0].Outputs {
		stack.Outputs[*o.OutputKey] = *o.OutputValue
	}
	resources, err := calls.DescribeStackResources(ctx, &cloudformation.DescribeStackResourcesInput{StackName: &name})
	if err != nil {
		t.Fatalf("describe resources of %s: %v", name, err)
	}
	for _, r := range resources.StackResources {
		stack.Resources[aws.ToString(r.LogicalResourceId)] = aws.ToString(r.PhysicalResourceId)
	}
	return stack
}
