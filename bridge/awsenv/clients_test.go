package awsenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"phoenix/bridge/config"
	"phoenix/lab"
	"phoenix/lab/awsproxy"
	"phoenix/lab/moto"
)

// An instance calls itself unhealthy by one call, of which the templates know.
func TestSetUnhealthy(t *testing.T) {
	loaded := moto.Start(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	machines, groups := ec2.NewFromConfig(loaded), autoscaling.NewFromConfig(loaded)
	images, err := machines.DescribeImages(t.Context(), &ec2.DescribeImagesInput{})
	must(err)
	_, err = machines.CreateLaunchTemplate(t.Context(),
		&ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("any"),
			LaunchTemplateData: &ec2types.RequestLaunchTemplateData{ImageId: images.Images[0].ImageId,
				InstanceType: "t3.micro"}})
	must(err)
	_, err = groups.CreateAutoScalingGroup(t.Context(),
		&autoscaling.CreateAutoScalingGroupInput{AutoScalingGroupName: aws.String("phoenix-masters"),
			MinSize: aws.Int32(0), MaxSize: aws.Int32(2), DesiredCapacity: aws.Int32(2),
			AvailabilityZones:      []string{moto.Region + "a"},
			HealthCheckGracePeriod: aws.Int32(3600),
			LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("any"),
				Version: aws.String("1")}})
	must(err)
	members := func() []types.Instance {
		out, err := groups.DescribeAutoScalingGroups(t.Context(), &autoscaling.DescribeAutoScalingGroupsInput{})
		must(err)
		return out.AutoScalingGroups[0].Instances
	}
	before := members()
	wire := awsproxy.Start(t, aws.ToString(loaded.BaseEndpoint))
	cfg := config.Default()
	cfg.InstanceID, cfg.AutoScaling.Endpoint = aws.ToString(before[0].InstanceId), wire.URL
	must(SetUnhealthy(cfg, loaded)(t.Context()))
	for _, is := range members() {
		if id := aws.ToString(is.InstanceId); (aws.ToString(is.HealthStatus) == "Unhealthy") != (id == cfg.InstanceID) {
			t.Errorf("%s is %s", id, aws.ToString(is.HealthStatus))
		}
	}
	root, err := lab.Root()
	must(err)
	listed, err := os.ReadFile(filepath.Join(root, "cloudformation", "testdata", "iam-heal.txt"))
	must(err)
	if needs := wire.Needs(); strings.Join(needs, "\n")+"\n" != string(listed) {
		t.Errorf("needed %q; listed %q", needs, listed)
	}
	cfg.InstanceID = "i-0000000000000000f"
	if err := SetUnhealthy(cfg, loaded)(t.Context()); err == nil {
		t.Error("an instance of no group is called unhealthy")
	}
}
