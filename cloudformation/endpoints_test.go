package cloudformation

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"phoenix/lab/moto"
	"phoenix/lab/stacks"
)

// TestEndpoints: a network without a way out has an endpoint of each service that masters
// and minions call, under the name that it has there, of CloudWatch Logs only with
// LogDays, and no internet gateway.
func TestEndpoints(t *testing.T) {
	for name, c := range map[string]struct {
		region, days string
		want         []string
	}{
		"plain": {moto.Region, "0", []string{"com.amazonaws.us-west-2.autoscaling", "com.amazonaws.us-west-2.dynamodb",
			"com.amazonaws.us-west-2.ec2", "com.amazonaws.us-west-2.monitoring",
			"com.amazonaws.us-west-2.s3", "com.amazonaws.us-west-2.secretsmanager", "com.amazonaws.us-west-2.sqs",
			"com.amazonaws.us-west-2.ssm", "com.amazonaws.us-west-2.ssmmessages"}},
		// In a network of the user's. The names are those that DescribeVpcEndpointServices
		// lists in China.
		"logs, in China": {"cn-north-1", "30",
			[]string{"cn.com.amazonaws.cn-north-1.autoscaling", "cn.com.amazonaws.cn-north-1.ec2",
				"cn.com.amazonaws.cn-north-1.monitoring", "cn.com.amazonaws.cn-north-1.sqs",
				"com.amazonaws.cn-north-1.logs", "com.amazonaws.cn-north-1.secretsmanager",
				"com.amazonaws.cn-north-1.ssm",
				"com.amazonaws.cn-north-1.ssmmessages"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := moto.Start(t)
			cfg.Region = c.region
			calls := ec2.NewFromConfig(cfg)
			parameters := map[string]string{"InternetAccess": "none", "LogDays": c.days}
			if cfg.Region != moto.Region { // moto knows the zones of its own region alone
				subnets, err := calls.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
				must(t, err)
				parameters["Vpc"], parameters["Subnets"] = *subnets.Subnets[0].VpcId, *subnets.Subnets[0].SubnetId
			}
			stacks.CreateBase(t, cfg)
			fleet := stacks.CreateFleet(t, cfg, parameters)
			out, err := calls.DescribeVpcEndpoints(t.Context(), &ec2.DescribeVpcEndpointsInput{})
			must(t, err)
			var services []string
			for _, e := range out.VpcEndpoints {
				services = append(services, *e.ServiceName)
				if *e.VpcId != fleet.Outputs["Vpc"] {
					t.Errorf("%s is in %s", *e.ServiceName, *e.VpcId)
				}
			}
			if slices.Sort(services); !slices.Equal(services, c.want) {
				t.Errorf("endpoints %v, want %v", services, c.want)
			}
			if fleet.Resources["Gateway"] != "" {
				t.Error("there is an internet gateway")
			}
		})
	}
}
