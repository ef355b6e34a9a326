package cloudformation

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	asgtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/transport/http/protocol/awsquery"

	"phoenix/lab/moto"
	"phoenix/lab/stacks"
)

// scaling: minions by CPU, masters by the metric that bridges publish.
func scaling(t *testing.T, cfg aws.Config) {
	out, err := autoscaling.NewFromConfig(cfg).DescribePolicies(t.Context(), &autoscaling.DescribePoliciesInput{})
	must(t, err)
	of := map[string]*asgtypes.TargetTrackingConfiguration{}
	for _, p := range out.ScalingPolicies {
		of[*p.AutoScalingGroupName] = p.TargetTrackingConfiguration
	}
	minions, masters := of[stacks.Base+"-minions"], of[stacks.Base+"-masters"]
	if len(of) != 2 || minions == nil || masters == nil {
		t.Fatalf("policies of %v", slices.Collect(maps.Keys(of)))
	}
	if m := minions.PredefinedMetricSpecification; m == nil ||
		m.PredefinedMetricType != asgtypes.MetricTypeASGAverageCPUUtilization || *minions.TargetValue != 50 {
		t.Errorf("minions: %+v", minions)
	}
	if m := masters.CustomizedMetricSpecification; m == nil || *m.Namespace != "Phoenix/phoenix" ||
		*m.MetricName != "Minions" || m.Statistic != asgtypes.MetricStatisticAverage || *masters.TargetValue != 1000 {
		t.Errorf("masters: %+v", masters)
	}
}

// published are the metrics that the bridge publishes; see bridge/cli, metricValues.
var published = []string{"Ready", "Minions", "TerminationsHeld", "ComparisonFailing", "LaunchesKept",
	"HighstatesFailed", "BreakerOpen"}

// alarms: each is about a metric that AWS or a bridge publishes, and about this fleet.
// Without AlarmTopic none notifies.
func alarms(t *testing.T, cfg aws.Config, base stacks.Stack) {
	found := alarmsOf(t, cfg)
	for name, a := range found {
		if len(a.AlarmActions)+len(a.OKActions) != 0 || !strings.Contains(*a.AlarmDescription, "docs/deploy.md") {
			t.Errorf("%s: %+v", name, a)
		}
		if a.Namespace == nil || *a.Namespace == "" {
			continue // masters missing
		}
		if *a.Namespace == "Phoenix/phoenix" && !slices.Contains(published, *a.MetricName) {
			t.Errorf("%s is about %s, which no bridge publishes", name, *a.MetricName)
		}
	}
	for name, want := range map[string]struct {
		metric  string
		missing string
	}{
		"phoenix dead letters":            {"ApproximateNumberOfMessagesVisible", "notBreaching"},
		"phoenix old messages":            {"ApproximateAgeOfOldestMessage", "notBreaching"},
		"phoenix no master ready":         {"Ready", "breaching"},
		"phoenix terminations held":       {"TerminationsHeld", "notBreaching"},
		"phoenix comparisons failing":     {"ComparisonFailing", "notBreaching"},
		"phoenix first highstates failed": {"HighstatesFailed", "notBreaching"},
		"phoenix failed launches kept":    {"LaunchesKept", "notBreaching"},
		"phoenix first highstates halted": {"BreakerOpen", "notBreaching"},
	} {
		a, there := found[name]
		if !there || *a.MetricName != want.metric || aws.ToString(a.TreatMissingData) != want.missing {
			t.Errorf("%s: %+v, want %+v", name, a, want)
		}
	}
	if a := found["phoenix dead letters"]; len(a.Dimensions) != 1 ||
		*a.Dimensions[0].Value != base.Outputs["DeadLetterQueue"] {
		t.Errorf("dead letters of %+v", a.Dimensions)
	}
	if a := found["phoenix masters missing"]; len(a.Metrics) != 3 ||
		*a.Metrics[0].Expression != "desired - inservice" ||
		*a.Metrics[1].MetricStat.Metric.Dimensions[0].Value != "phoenix-masters" {
		t.Errorf("masters missing: %+v", a)
	}
	if len(found) != 9 {
		t.Errorf("%d alarms", len(found))
	}
}

func alarmsOf(t *testing.T, cfg aws.Config) map[string]cwtypes.MetricAlarm {
	t.Helper()
	client := cloudwatch.NewFromConfig(cfg, func(o *cloudwatch.Options) {
		o.Protocol = awsquery.New(schemas.GraniteServiceVersion20100801) // moto's
	})
	out, err := client.DescribeAlarms(t.Context(), &cloudwatch.DescribeAlarmsInput{})
	must(t, err)
	found := map[string]cwtypes.MetricAlarm{}
	for _, a := range out.MetricAlarms {
		found[*a.AlarmName] = a
	}
	return found
}

// TestFurtherStack: another role is another fleet stack on the same base. It creates a
// group of minions and nothing for masters, with Spot Instances of several types, its
// grains, and a topic for alarms. Logs of the first stack are collected, and its own are not.
func TestFurtherStack(t *testing.T) {
	const topic, key = "arn:aws:sns:us-west-2:123456789012:alarms",
		"arn:aws:kms:us-west-2:123456789012:key/00000000-0000-0000-0000-000000000001"
	cfg := moto.Start(t)
	stacks.CreateNamedBase(t, cfg, stacks.Base, map[string]string{"AlarmTopic": topic})
	first := stacks.CreateFleet(t, cfg,
		map[string]string{"Groups": "phoenix-web", "AlarmTopic": topic, "LogDays": "30"})
	web := stacks.CreateNamedFleet(t, cfg, "phoenix-web",
		map[string]string{"Masters": "0", "Role": "web", "MinionsAtLeast": "0", "Vpc": first.Outputs["Vpc"],
			"Subnets": first.Outputs["Subnets"], "MinionsSecurity": first.Outputs["MinionsSecurity"],
			"MinionGrains": "{role: web, env: prod}",
			"MinionType":   "t3.small", "MinionType2": "t3a.small", "MinionsOnDemand": "20", "MinionScaling": "none",
			"DiskKey": key, "DiskSize": "20"})
	warm := stacks.CreateNamedFleet(t, cfg, "phoenix-batch",
		map[string]string{"Masters": "0", "Role": "batch", "MinionsAtLeast": "0", "Vpc": first.Outputs["Vpc"],
			"Subnets": first.Outputs["Subnets"], "MinionsSecurity": first.Outputs["MinionsSecurity"],
			"WarmMinions":   "3",
			"MinionScaling": "none"})
	if _, masters := web.Outputs["MastersGroup"]; masters || web.Resources["MasterTemplate"] != "" ||
		web.Resources["MinionSecurity"] != "" || warm.Resources["MinionTemplate"] == "" {
		t.Errorf("web: %v %v", web.Outputs, web.Resources)
	}
	if text := userDataOf(t, cfg, web.Resources["MinionTemplate"]); !strings.Contains(text,
		"MINION_GRAINS='{role: web, env: prod}'\n") {
		t.Errorf("user data: %s", text)
	}
	if text := userDataOf(t, cfg, first.Resources["MasterTemplate"]); !strings.Contains(text,
		"PHOENIX_MINIONS_GROUPS='phoenix-minions, phoenix-web'\n") {
		t.Errorf("user data: %s", text)
	}
	logs(t, cfg, first, web)
	if disk := launchData(t, cfg, web.Resources["MinionTemplate"]).BlockDeviceMappings[0].Ebs; !*disk.Encrypted ||
		aws.ToString(disk.KmsKeyId) != key || *disk.VolumeSize != 20 {
		t.Errorf("disk %+v", disk)
	}
	calls := autoscaling.NewFromConfig(cfg)
	out, err := calls.DescribeAutoScalingGroups(t.Context(),
		&autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{stacks.Base + "-web"}})
	must(t, err)
	mixed := out.AutoScalingGroups[0].MixedInstancesPolicy
	if mixed == nil || *mixed.InstancesDistribution.OnDemandPercentageAboveBaseCapacity != 20 ||
		len(mixed.LaunchTemplate.Overrides) != 2 || out.AutoScalingGroups[0].LaunchTemplate != nil {
		t.Errorf("instances %+v", mixed)
	}
	pool, err := calls.DescribeWarmPool(t.Context(),
		&autoscaling.DescribeWarmPoolInput{AutoScalingGroupName: aws.String(stacks.Base + "-batch")})
	must(t, err)
	if p := pool.WarmPoolConfiguration; p == nil || *p.MinSize != 3 || p.PoolState != asgtypes.WarmPoolStateStopped {
		t.Errorf("warm pool %+v", p)
	}
	policies, err := calls.DescribePolicies(t.Context(), &autoscaling.DescribePoliciesInput{})
	must(t, err)
	if len(policies.ScalingPolicies) != 2 {
		t.Errorf("%d scaling policies; those of the first stack are two", len(policies.ScalingPolicies))
	}
	for name, a := range alarmsOf(t, cfg) {
		if !slices.Equal(a.AlarmActions, []string{topic}) || !slices.Equal(a.OKActions, []string{topic}) {
			t.Errorf("%s notifies %v", name, a.AlarmActions)
		}
	}
}

// logs: three groups with a retention, which user data names, and none in a stack without
// LogDays.
func logs(t *testing.T, cfg aws.Config, with, without stacks.Stack) {
	t.Helper()
	var out struct {
		LogGroups []struct {
			LogGroupName    string `json:"logGroupName"`
			RetentionInDays int    `json:"retentionInDays"`
		} `json:"logGroups"`
	}
	call(t, cfg, "logs", "Logs_20140328.DescribeLogGroups", map[string]string{}, &out)
	days := map[string]int{}
	for _, g := range out.LogGroups {
		days[g.LogGroupName] = g.RetentionInDays
	}
	want := map[string]int{with.Outputs["MasterLogs"]: 30, with.Outputs["AuditLogs"]: 30,
		with.Outputs["MinionLogs"]: 30}
	if len(want) != 3 || !maps.Equal(days, want) {
		t.Errorf("log groups %v, want %v", days, want)
	}
	for template, part := range map[string]string{
		with.Resources["MasterTemplate"]: "PHOENIX_LOG_GROUP='" + with.Outputs["MasterLogs"] +
			"' PHOENIX_AUDIT_GROUP='" + with.Outputs["AuditLogs"] + "'\n",
		with.Resources["MinionTemplate"]:    "PHOENIX_LOG_GROUP='" + with.Outputs["MinionLogs"] + "'\n",
		without.Resources["MinionTemplate"]: "PHOENIX_LOG_GROUP=''\n",
	} {
		if text := userDataOf(t, cfg, template); !strings.Contains(text, part) {
			t.Errorf("user data lacks %q: %s", part, text)
		}
	}
	// What moto does not keep: a stack that is deleted leaves its logs.
	fleet := parse(t, "fleet.yaml")
	for _, name := range []string{"MasterLogs", "AuditLogs", "MinionLogs"} {
		if p := fleet.Resources[name].DeletionPolicy; p != "RetainExceptOnCreate" {
			t.Errorf("%s: deletion policy %s", name, p)
		}
	}
}

// TestKeptResources: a new base stack takes the tables, the bucket and the key that a
// former one left behind, and creates none of its own.
func TestKeptResources(t *testing.T) {
	cfg := moto.Start(t)
	old := stacks.CreateNamedBase(t, cfg, "former", nil)
	kept := map[string]string{}
	for _, name := range []string{"MinionsTable", "MastersTable", "ProofsTable", "IdentityBucket", "IdentityKey"} {
		kept[name] = old.Outputs[name]
	}
	base := stacks.CreateNamedBase(t, cfg, stacks.Base, kept)
	for name, value := range kept {
		if base.Outputs[name] != value {
			t.Errorf("%s is %s, want %s", name, base.Outputs[name], value)
		}
	}
	tables, err := dynamodb.NewFromConfig(cfg).ListTables(t.Context(), &dynamodb.ListTablesInput{})
	must(t, err)
	if len(tables.TableNames) != 3 {
		t.Errorf("tables %v", tables.TableNames)
	}
}
