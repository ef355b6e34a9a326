package cloudformation

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"phoenix/bridge/fleet/dynamo"
	"phoenix/lab/moto"
	"phoenix/lab/stacks"
)

// TestStacks: both templates make what they are to make. What moto's
// CloudFormation passes over is read from the template: point-in-time recovery and
// expiry of tables, a queue's policy, a bucket's versions and its public access,
// hooks and maintenance policy of groups.
func TestStacks(t *testing.T) {
	cfg := moto.Start(t)
	base := stacks.CreateBase(t, cfg)
	fleet := stacks.CreateFleet(t, cfg, nil)
	t.Run("Tables", func(t *testing.T) { tables(t, cfg, base) })
	t.Run("Messages", func(t *testing.T) { messages(t, cfg, base) })
	t.Run("Buckets", func(t *testing.T) { buckets(t, cfg, base) })
	t.Run("Groups", func(t *testing.T) { groups(t, cfg) })
	t.Run("Security", func(t *testing.T) { security(t, cfg, fleet) })
	t.Run("UserData", func(t *testing.T) { userData(t, cfg, base, fleet) })
	t.Run("Scaling", func(t *testing.T) { scaling(t, cfg) })
	t.Run("Alarms", func(t *testing.T) { alarms(t, cfg, base) })
}

// tables: as the store itself would make them (phoenix opens them without a word),
// on demand, with point-in-time recovery.
func tables(t *testing.T, cfg aws.Config, base stacks.Stack) {
	calls := dynamodb.NewFromConfig(cfg)
	for output, keys := range map[string]string{"MinionsTable": "instanceid", "MastersTable": "instanceid",
		"ProofsTable": "instance_arn"} {
		name := base.Outputs[output]
		out, err := calls.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &name})
		must(t, err)
		table := out.Table
		if len(table.KeySchema) != 1 || *table.KeySchema[0].AttributeName != keys ||
			table.BillingModeSummary.BillingMode != dynamodbtypes.BillingModePayPerRequest {
			t.Errorf("%s: %+v", output, table)
		}
		if output != "MinionsTable" {
			continue
		}
		if len(table.GlobalSecondaryIndexes) != 1 {
			t.Fatalf("%s: %+v", output, table.GlobalSecondaryIndexes)
		}
		index := table.GlobalSecondaryIndexes[0]
		if *index.IndexName != "by-status" || *index.KeySchema[0].AttributeName != "status" ||
			*index.KeySchema[1].AttributeName != "modified" ||
			index.Projection.ProjectionType != dynamodbtypes.ProjectionTypeAll {
			t.Errorf("index: %+v", index)
		}
	}
	template := parse(t, "base.yaml")
	for _, name := range []string{"Minions", "Masters", "Proofs"} {
		if template.value(name, "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled") != "true" {
			t.Errorf("%s: no point-in-time recovery", name)
		}
		// A proof is as old as its instance; there is nothing in it to forget.
		if name != "Proofs" && (template.value(name, "TimeToLiveSpecification", "AttributeName") != "expires" ||
			template.value(name, "TimeToLiveSpecification", "Enabled") != "true") {
			t.Errorf("%s: rows do not expire", name)
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	store, err := dynamo.Open(t.Context(), dynamo.Config{Region: cfg.Region, Endpoint: *cfg.BaseEndpoint,
		MinionsTable: base.Outputs["MinionsTable"], MastersTable: base.Outputs["MastersTable"],
		ProofsTable: base.Outputs["ProofsTable"]})
	must(t, err)
	must(t, store.Create(t.Context())) // finds them as they are to be
	must(t, store.Close())
}

func messages(t *testing.T, cfg aws.Config, base stacks.Stack) {
	calls := sqs.NewFromConfig(cfg)
	attributes := func(queue string) map[string]string {
		url, err := calls.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String(base.Outputs[queue])})
		must(t, err)
		out, err := calls.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: url.QueueUrl,
			AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll}})
		must(t, err)
		return out.Attributes
	}
	queue, dead := attributes("Queue"), attributes("DeadLetterQueue")
	if !strings.Contains(queue["RedrivePolicy"], dead["QueueArn"]) || queue["SqsManagedSseEnabled"] != "true" ||
		dead["SqsManagedSseEnabled"] != "true" {
		t.Errorf("queue %v\ndead letters %v", queue, dead)
	}
	// By EventBridge's two rules of this account, and by nobody else: whoever could send
	// might call instances terminated.
	statements := parse(t, "base.yaml").statements("MessagesPolicy")
	if len(statements) != 1 || statements[0].Principal != "events.amazonaws.com" {
		t.Fatalf("who may send: %+v", statements)
	}
	var condition map[string]map[string][]string
	must(t, statements[0].Condition.Decode(&condition))
	if !slices.Equal(condition["ArnEquals"]["aws:SourceArn"], []string{"Rule.Arn", "Warnings.Arn"}) {
		t.Errorf("who may send: %+v", condition)
	}
	for name, r := range parse(t, "base.yaml").Resources {
		if strings.HasPrefix(r.Type, "AWS::SNS::") {
			t.Errorf("%s: whoever may publish to a topic could call instances terminated", name)
		}
	}

	for resource, parts := range map[string][]string{
		"Rule": {"aws.autoscaling", "EC2 Instance Launch Successful", "EC2 Instance Terminate Successful",
			"EC2 Instance-launch Lifecycle Action", "EC2 Instance-terminate Lifecycle Action", stacks.Base + "-"},
		"Warnings": {"aws.ec2", "EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation"},
	} {
		var rule struct{ Name, State, EventPattern string }
		call(t, cfg, "events", "AWSEvents.DescribeRule", map[string]string{"Name": base.Resources[resource]}, &rule)
		for _, part := range parts {
			if !strings.Contains(rule.EventPattern, part) {
				t.Errorf("rule %s lacks %q: %+v", resource, part, rule)
			}
		}
		var targets struct{ Targets []struct{ Arn string } }
		call(t, cfg, "events", "AWSEvents.ListTargetsByRule", map[string]string{"Rule": base.Resources[resource]},
			&targets)
		if rule.State != "ENABLED" || len(targets.Targets) != 1 || targets.Targets[0].Arn != queue["QueueArn"] {
			t.Errorf("rule %+v, targets %+v", rule, targets)
		}
	}
}

// buckets: nobody outside gets in, what is deleted can be had again, and the
// identity is encrypted with the fleet's own key.
func buckets(t *testing.T, cfg aws.Config, base stacks.Stack) {
	template := parse(t, "base.yaml")
	calls := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	for output, algorithm := range map[string]s3types.ServerSideEncryption{"IdentityBucket": s3types.ServerSideEncryptionAwsKms, "PackagesBucket": s3types.ServerSideEncryptionAes256} {
		name := aws.String(base.Outputs[output])
		resource := strings.TrimSuffix(output, "Bucket")
		if template.value(resource, "VersioningConfiguration", "Status") != "Enabled" {
			t.Errorf("%s: no versions are kept", output)
		}
		for _, block := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls",
			"RestrictPublicBuckets"} {
			if template.value(resource, "PublicAccessBlockConfiguration", block) != "true" {
				t.Errorf("%s: %s is not set", output, block)
			}
		}
		encryption, err := calls.GetBucketEncryption(t.Context(), &s3.GetBucketEncryptionInput{Bucket: name})
		must(t, err)
		by := encryption.ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault
		if by.SSEAlgorithm != algorithm ||
			algorithm == s3types.ServerSideEncryptionAwsKms && *by.KMSMasterKeyID != base.Outputs["IdentityKey"] {
			t.Errorf("%s: encrypted by %+v", output, by)
		}
	}
}

// groups: over two zones, by launch templates that serve no version 1 of the metadata
// and encrypt disks, with as many instances as asked for.
func groups(t *testing.T, cfg aws.Config) {
	calls := ec2.NewFromConfig(cfg)
	out, err := autoscaling.NewFromConfig(cfg).DescribeAutoScalingGroups(t.Context(),
		&autoscaling.DescribeAutoScalingGroupsInput{})
	must(t, err)
	var names []string
	for _, group := range out.AutoScalingGroups {
		names = append(names, *group.AutoScalingGroupName)
		subnets := strings.Split(*group.VPCZoneIdentifier, ",")
		found, err := calls.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{SubnetIds: subnets})
		must(t, err)
		in := map[string]bool{}
		for _, s := range found.Subnets {
			in[*s.AvailabilityZone] = true
		}
		if len(in) != 2 {
			t.Errorf("%s is in zones %v", *group.AutoScalingGroupName, in)
		}
		if len(group.Instances) != int(*group.MinSize) || *group.MaxSize <= *group.MinSize {
			t.Errorf("%s: %d instances, %d to %d", *group.AutoScalingGroupName, len(group.Instances), *group.MinSize,
				*group.MaxSize)
		}
		data := launchData(t, cfg, *group.LaunchTemplate.LaunchTemplateId)
		if disk := data.BlockDeviceMappings[0].Ebs; !*disk.Encrypted || disk.VolumeType != ec2types.VolumeTypeGp3 ||
			disk.KmsKeyId != nil {
			t.Errorf("%s: disk %+v", *group.AutoScalingGroupName, disk)
		}
		if data.MetadataOptions.HttpTokens != ec2types.LaunchTemplateHttpTokensStateRequired || data.KeyName != nil {
			t.Errorf("%s: %+v", *group.AutoScalingGroupName, data)
		}
	}
	if slices.Sort(names); !slices.Equal(names, []string{stacks.Base + "-masters", stacks.Base + "-minions"}) {
		t.Errorf("groups %v", names)
	}
	fleet := parse(t, "fleet.yaml")
	for name, launching := range map[string]string{"MasterGroup": "ABANDON", "MinionGroup": "ABANDON"} {
		var group struct {
			Hooks []struct {
				Name       string `yaml:"LifecycleHookName"`
				Transition string `yaml:"LifecycleTransition"`
				Result     string `yaml:"DefaultResult"`
			} `yaml:"LifecycleHookSpecificationList"`
			Policy struct {
				Min int `yaml:"MinHealthyPercentage"`
				Max int `yaml:"MaxHealthyPercentage"`
			} `yaml:"InstanceMaintenancePolicy"`
		}
		node := fleet.Resources[name].Properties
		must(t, node.Decode(&group))
		hooks := map[string]string{}
		for _, h := range group.Hooks {
			hooks[strings.TrimPrefix(h.Transition, "autoscaling:EC2_INSTANCE_")] = h.Result
			if h.Name != "phoenix-launching" && h.Name != "phoenix-terminating" { // the defaults of autoscaling.hooks
				t.Errorf("%s: hook %s", name, h.Name)
			}
		}
		if hooks["LAUNCHING"] != launching || hooks["TERMINATING"] != "CONTINUE" {
			t.Errorf("%s: hooks %v", name, hooks)
		}
		// A master goes only when there are as many others.
		if name == "MasterGroup" && (group.Policy.Min != 100 || group.Policy.Max <= 100) {
			t.Errorf("%s: %+v", name, group.Policy)
		}
	}
}

// security: masters take connections to Salt's two ports from minions and from
// each other, to the relay's from each other, and nothing else; minions take none.
func security(t *testing.T, cfg aws.Config, fleet stacks.Stack) {
	calls := ec2.NewFromConfig(cfg)
	masters, minions := fleet.Resources["MasterSecurity"], fleet.Resources["MinionSecurity"]
	out, err := calls.DescribeSecurityGroups(t.Context(),
		&ec2.DescribeSecurityGroupsInput{GroupIds: []string{masters, minions}})
	must(t, err)
	for _, group := range out.SecurityGroups {
		var from []string
		for _, p := range group.IpPermissions {
			relay := *p.FromPort == 4507 && *p.ToPort == 4507
			if *p.IpProtocol != "tcp" || !relay && (*p.FromPort != 4505 || *p.ToPort != 4506) ||
				len(p.IpRanges)+len(p.Ipv6Ranges)+len(p.PrefixListIds) > 0 {
				t.Errorf("%s takes %+v", *group.GroupName, p)
			}
			for _, pair := range p.UserIdGroupPairs {
				from = append(from, fmt.Sprint(*pair.GroupId, " ", *p.FromPort))
			}
		}
		want := []string{masters + " 4505", minions + " 4505", masters + " 4507"}
		if *group.GroupId == minions {
			want = nil
		}
		slices.Sort(want)
		if slices.Sort(from); !slices.Equal(from, want) {
			t.Errorf("%s takes connections of %v, want %v", *group.GroupName, from, want)
		}
	}
}

// userData: what both launch templates run is a script that bash can read, with
// nothing left of the template in it, and within the limit of 16 KiB.
func userData(t *testing.T, cfg aws.Config, base, fleet stacks.Stack) {
	for resource, must := range map[string][]string{
		"MasterTemplate": {"PHOENIX_ROLE=master", "PHOENIX_QUEUE='" + base.Outputs["Queue"],
			"PHOENIX_MINIONS_GROUPS='phoenix-minions'\n", "PHOENIX_METRICS='Phoenix/phoenix'",
			"PHOENIX_LOG_GROUP='' PHOENIX_AUDIT_GROUP=''\n",
			"PHOENIX_IDENTITY_BUCKET='" + base.Outputs["IdentityBucket"]},
		"MinionTemplate": {"PHOENIX_ROLE=minion", "PHOENIX_LOG_GROUP=''\n", "MINION_GRAINS=''\n"},
	} {
		text := userDataOf(t, cfg, fleet.Resources[resource])
		must = append(must, "#!/bin/bash\n", "PHOENIX_PACKAGES='"+base.Outputs["PackagesBucket"],
			"PHOENIX_REGION='"+cfg.Region+"'",
			"PHOENIX_MINIONS_TABLE='"+base.Outputs["MinionsTable"], "exec /usr/lib/phoenix/bootstrap\n")
		for _, part := range must {
			if !strings.Contains(text, part) {
				t.Errorf("%s lacks %q", resource, part)
			}
		}
		if len(text) > 16<<10 || strings.Contains(text, "${Base}") ||
			strings.Contains(text, "Identity") && resource == "MinionTemplate" {
			t.Errorf("%s: %d bytes\n%s", resource, len(text), text)
		}
		script := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("bash", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", resource, err, out)
		}
	}
}

// userDataOf is what a launch template gives to its machines.
func userDataOf(t *testing.T, cfg aws.Config, template string) string {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(*launchData(t, cfg, template).UserData)
	must(t, err)
	return string(text)
}

func launchData(t *testing.T, cfg aws.Config, template string) *ec2types.ResponseLaunchTemplateData {
	t.Helper()
	out, err := ec2.NewFromConfig(cfg).DescribeLaunchTemplateVersions(t.Context(),
		&ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &template})
	must(t, err)
	return out.LaunchTemplateVersions[0].LaunchTemplateData
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
