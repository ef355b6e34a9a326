package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/dynamo"
	"phoenix/lab"
	"phoenix/lab/awsproxy"
	"phoenix/lab/dynamodb"
	"phoenix/lab/imds"
	"phoenix/lab/moto"
)

// cloud is what stands for AWS: moto, and DynamoDB Local for the tables, each
// behind a proxy that records what bridges call. The test itself calls them directly.
type cloud struct {
	t      *testing.T
	tables *awsproxy.Proxy // DynamoDB
	api    *awsproxy.Proxy // all else
	store  *dynamo.Store
	rows   *awsdynamodb.Client
	bucket string // of the masters' identity
	sns    *sns.Client
	sqs    *sqs.Client
	groups *autoscaling.Client
	ec2    *ec2.Client
	topic  string
	queue  string // its URL, as the endpoint gives it
}

// queueName is the name of the one queue, which the topic leads to.
const queueName = "messages"

func newCloud(t *testing.T) *cloud {
	t.Helper()
	cfg := moto.Start(t)
	server, err := dynamodb.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	c := &cloud{t: t, tables: awsproxy.Start(t, server.URL), api: awsproxy.Start(t, *cfg.BaseEndpoint),
		sns: sns.NewFromConfig(cfg), sqs: sqs.NewFromConfig(cfg), groups: autoscaling.NewFromConfig(cfg),
		ec2: ec2.NewFromConfig(cfg)}
	c.rows = awsdynamodb.NewFromConfig(cfg, func(o *awsdynamodb.Options) { o.BaseEndpoint = &server.URL })
	c.store, err = dynamo.Open(t.Context(), dynamo.Config{Region: moto.Region, Endpoint: server.URL})
	c.must(err)
	// On a busy machine a JVM that has just begun takes longer than the store waits.
	lab.Eventually(t, time.Minute, "the tables are made", func() (bool, string) {
		err := c.store.Create(t.Context())
		return err == nil, fmt.Sprint(err)
	})
	// AWS deletes what expired within days, DynamoDB Local at once.
	for _, table := range []string{"minions", "masters"} {
		_, err := c.rows.UpdateTimeToLive(t.Context(), &awsdynamodb.UpdateTimeToLiveInput{TableName: &table,
			TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String("expires"),
				Enabled: aws.Bool(false)}})
		c.must(err)
	}
	topic, err := c.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("fleet")})
	c.must(err)
	queue, err := c.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(queueName)})
	c.must(err)
	c.topic, c.queue = *topic.TopicArn, *queue.QueueUrl
	arn := c.attributes()["QueueArn"]
	_, err = c.sns.Subscribe(t.Context(), &sns.SubscribeInput{TopicArn: topic.TopicArn, Protocol: aws.String("sqs"),
		Endpoint: &arn})
	c.must(err)
	c.bucket = "masters"
	_, err = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }).CreateBucket(t.Context(),
		&s3.CreateBucketInput{Bucket: &c.bucket,
			CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: moto.Region}})
	c.must(err)
	images, err := c.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{MaxResults: aws.Int32(5)})
	c.must(err)
	_, err = c.ec2.CreateLaunchTemplate(t.Context(),
		&ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("any"),
			LaunchTemplateData: &ec2types.RequestLaunchTemplateData{ImageId: images.Images[0].ImageId,
				InstanceType: "t3.micro"}})
	c.must(err)
	return c
}

func (c *cloud) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// group makes an Auto Scaling group, which starts so many instances at once, and
// tells nobody.
func (c *cloud) group(name string, instances int) (ids []string) {
	c.t.Helper()
	_, err := c.groups.CreateAutoScalingGroup(c.t.Context(),
		&autoscaling.CreateAutoScalingGroupInput{AutoScalingGroupName: &name,
			MinSize: aws.Int32(0), MaxSize: aws.Int32(100), DesiredCapacity: aws.Int32(int32(instances)),
			AvailabilityZones: []string{moto.Region + "a"},
			LaunchTemplate: &autoscalingtypes.LaunchTemplateSpecification{LaunchTemplateName: aws.String("any"),
				Version: aws.String("1")}})
	c.must(err)
	out, err := c.groups.DescribeAutoScalingGroups(c.t.Context(),
		&autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{name}})
	c.must(err)
	for _, i := range out.AutoScalingGroups[0].Instances {
		ids = append(ids, *i.InstanceId)
	}
	if len(ids) != instances {
		c.t.Fatalf("group %s has %v", name, ids)
	}
	return ids
}

// hook gives a group a lifecycle hook. Moto only remembers it: no instance waits.
func (c *cloud) hook(group, name, transition string) {
	c.t.Helper()
	_, err := c.groups.PutLifecycleHook(c.t.Context(),
		&autoscaling.PutLifecycleHookInput{AutoScalingGroupName: &group, LifecycleHookName: &name,
			LifecycleTransition: aws.String("autoscaling:EC2_INSTANCE_" + transition), HeartbeatTimeout: aws.Int32(300),
			DefaultResult: aws.String("ABANDON")})
	c.must(err)
}

// end lets a group end an instance, and tells nobody.
func (c *cloud) end(id string) {
	c.t.Helper()
	_, err := c.groups.TerminateInstanceInAutoScalingGroup(c.t.Context(),
		&autoscaling.TerminateInstanceInAutoScalingGroupInput{
			InstanceId: &id, ShouldDecrementDesiredCapacity: aws.Bool(true)})
	c.must(err)
}

// publish sends a message by the topic.
func (c *cloud) publish(body string) {
	c.t.Helper()
	_, err := c.sns.Publish(c.t.Context(), &sns.PublishInput{TopicArn: &c.topic, Message: &body})
	c.must(err)
}

func (c *cloud) attributes() map[string]string {
	c.t.Helper()
	out, err := c.sqs.GetQueueAttributes(c.t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &c.queue,
		AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll}})
	c.must(err)
	return out.Attributes
}

// waiting is how many messages the queue holds, those in somebody's hands included.
func (c *cloud) waiting() (n int) {
	c.t.Helper()
	attributes := c.attributes()
	for _, name := range []string{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"} {
		some, err := strconv.Atoi(attributes[name])
		c.must(err)
		n += some
	}
	return n
}

// account is moto's.
const account = "123456789012"

// machine is what a bridge or an agent on an instance finds in its environment.
type machine []string

// instance runs the metadata service of an instance, by which programs on it
// find who and where they are.
func (c *cloud) instance(id string) machine {
	c.t.Helper()
	service := imds.Start(c.t, imds.Instance{ID: id, Account: account, Region: moto.Region, PrivateIP: "127.0.0.1"})
	return machine{"AWS_ENDPOINT_URL_EC2=" + c.api.URL, "AWS_EC2_METADATA_DISABLED=false",
		"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + service.URL}
}

// bridge writes the configuration of a bridge on an instance, as the templates
// do, but for the endpoints.
func (c *cloud) bridge(l *lab.Lab, master *lab.Master, on machine) *lab.Bridge {
	c.t.Helper()
	return c.bridgeWith(l, master, on, nil)
}

// bridgeWith is bridge, with more of a configuration.
func (c *cloud) bridgeWith(l *lab.Lab, master *lab.Master, on machine, more map[string]any) *lab.Bridge {
	c.t.Helper()
	config := map[string]any{
		"instance_id": "", // the instance knows
		"admit":       "proven",
		"dynamodb":    map[string]any{"endpoint": c.tables.URL},
		"sqs":         map[string]any{"queues": []string{queueName}, "endpoint": c.api.URL},
		"autoscaling": map[string]any{"groups": []string{"web", "masters:salt"}, "endpoint": c.api.URL},
		"identity":    map[string]any{"bucket": c.bucket, "endpoint": c.api.URL},
	}
	maps.Copy(config, more)
	return l.NewBridge(lab.BridgeOptions{Master: master, Store: "dynamodb:", Env: on, Config: config})
}

// prove writes a minion's proof, as the agent of its instance does.
func (c *cloud) prove(m *lab.Minion) {
	c.t.Helper()
	c.proveKey(m.ID, digestOf(c.t, m))
}

func (c *cloud) proveKey(id, digest string) {
	c.t.Helper()
	c.must(c.store.PutProof(c.t.Context(), "arn:aws:ec2:"+moto.Region+":"+account+":instance/"+id,
		fleet.Proof{KeySHA256: digest}))
}

// put writes an item as another program would.
func (c *cloud) put(table string, item map[string]types.AttributeValue) {
	c.t.Helper()
	_, err := c.rows.PutItem(c.t.Context(), &awsdynamodb.PutItemInput{TableName: &table, Item: item})
	c.must(err)
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// permits holds a list of the permissions that a role of the templates has
// against what IAM would have been asked for by all calls that came through the proxies.
func permits(t *testing.T, list string, proxies ...*awsproxy.Proxy) {
	t.Helper()
	var needs []string
	for _, proxy := range proxies {
		needs = append(needs, proxy.Needs()...)
	}
	slices.Sort(needs)
	needs = slices.Compact(needs)
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "cloudformation", "testdata", list)
	listed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(needs, "\n") + "\n"; got != string(listed) {
		t.Errorf("%s is not what was called for, which is\n%s", path, got)
	}
}

// notice is what a group's notification by SNS says: LAUNCH or TERMINATE.
func notice(event, id, group string) string {
	return told(map[string]string{"Event": "autoscaling:EC2_INSTANCE_" + event, "EC2InstanceId": id,
		"AutoScalingGroupName": group})
}

// held is what a lifecycle hook says: LAUNCHING or TERMINATING.
func held(event, id, group, hook string) string {
	return told(map[string]string{"LifecycleTransition": "autoscaling:EC2_INSTANCE_" + event, "EC2InstanceId": id,
		"AutoScalingGroupName": group, "LifecycleHookName": hook,
		"LifecycleActionToken": "87654321-4321-4321-4321-210987654321"})
}

func told(what map[string]string) string {
	what["Service"], what["AccountId"] = "AWS Auto Scaling", account
	what["Time"] = time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	text, err := json.Marshal(what)
	if err != nil {
		panic(fmt.Sprintf("encode strings: %v", err)) // unreachable
	}
	return string(text)
}
