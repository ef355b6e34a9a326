package autoscaling

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"phoenix/bridge/fleet"
	"phoenix/lab/moto"
)

// within bounds what moto needs for the messages of a test on a busy machine.
const within = 90 * time.Second

// TestMoto tries what a fake of our own would only agree with: real queues, a
// real topic, groups and instances, as moto has them.
func TestMoto(t *testing.T) {
	cfg := moto.Start(t)
	t.Run("Messages", func(t *testing.T) { motoMessages(t, cfg) })
	t.Run("Groups", func(t *testing.T) { motoGroups(t, cfg) })
	t.Run("NoQueue", func(t *testing.T) { motoNoQueue(t, cfg) })
}

// motoMessages: SNS through SQS, shuffled, repeated, with poison among them, read
// by two masters at once.
func motoMessages(t *testing.T, cfg aws.Config) {
	ctx := t.Context()
	queues, topics := sqs.NewFromConfig(cfg), sns.NewFromConfig(cfg)
	queue, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("fleet")})
	must(t, err)
	attributes, err := queues.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: queue.QueueUrl,
		AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameQueueArn}})
	must(t, err)
	arn := attributes.Attributes["QueueArn"]
	publish := map[string]*string{}
	for raw, name := range map[string]string{"false": "enveloped", "true": "raw"} {
		topic, err := topics.CreateTopic(ctx, &sns.CreateTopicInput{Name: &name})
		must(t, err)
		_, err = topics.Subscribe(ctx, &sns.SubscribeInput{TopicArn: topic.TopicArn, Protocol: aws.String("sqs"),
			Endpoint:   &arn,
			Attributes: map[string]string{"RawMessageDelivery": raw}})
		must(t, err)
		publish[name] = topic.TopicArn
	}

	// Masters that are terminated: EC2's own word is asked for.
	instances := ec2.NewFromConfig(cfg)
	images, err := instances.DescribeImages(ctx, &ec2.DescribeImagesInput{MaxResults: aws.Int32(5)})
	must(t, err)
	ran, err := instances.RunInstances(ctx,
		&ec2.RunInstancesInput{ImageId: images.Images[0].ImageId, MinCount: aws.Int32(3), MaxCount: aws.Int32(3)})
	must(t, err)
	var masterIDs []string
	for _, i := range ran.Instances {
		masterIDs = append(masterIDs, *i.InstanceId)
	}
	_, err = instances.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: masterIDs[:2]})
	must(t, err)

	const n, gone, poison = 24, 8, 12
	var bodies []string
	for i := range n {
		const group = "web"
		bodies = append(bodies, message("LAUNCH", instance(i), group, time.Now()),
			message("LAUNCH", instance(i), group, time.Now()))
		if i < gone {
			bodies = append(bodies, message("TERMINATE", instance(i), group, time.Now()))
		}
	}
	for _, id := range masterIDs { // the third lives, whatever a message says
		bodies = append(bodies, message("LAUNCH", id, "salt", time.Now()), message("TERMINATE", id, "salt", time.Now()))
	}
	for i := range poison {
		bodies = append(bodies, fmt.Sprintf("poison %d", i))
	}
	bodies = append(bodies, string(fixture(t, "raw-test.json")))
	rand.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
	for i, body := range bodies {
		topic := publish["enveloped"]
		if i%2 == 0 {
			topic = publish["raw"]
		}
		_, err := topics.Publish(ctx, &sns.PublishInput{TopicArn: topic, Message: &body})
		must(t, err)
	}

	store := newStore(t)
	readers := make([]*Reader, 2)
	for i := range readers {
		items := []Item{{"", "fleet"}}
		if i == 1 {
			items = []Item{{"", aws.ToString(queue.QueueUrl)}}
		}
		c := Config{Queues: items, Groups: webAndMasters, Attempts: 3}
		hooks, err := NewHooks(c, store, autoscaling.NewFromConfig(cfg), slog.New(slog.DiscardHandler))
		must(t, err)
		readers[i], err = NewReader(c, store, queues, ec2.NewFromConfig(cfg), hooks, slog.New(slog.DiscardHandler))
		must(t, err)
		run(t, readers[i].Run)
	}
	good := int64(len(bodies) - poison - 1)
	eventually(t, func() string {
		var s Stats
		for _, r := range readers {
			s.Deleted += r.Stats().Deleted
			s.Malformed += r.Stats().Malformed
		}
		if s.Deleted < good || s.Malformed < poison {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
	for i := range n {
		want := fleet.Launch
		if i < gone {
			want = fleet.Terminate
		}
		if got := statusOf(t, store, instance(i)); got != want {
			t.Errorf("%s: %q, want %q", instance(i), got, want)
		}
	}
	masters, err := store.Masters(ctx)
	if err != nil || len(masters) != 2 || masters[0].Status != fleet.Terminate || masters[1].Status != fleet.Terminate {
		t.Errorf("masters %+v, %v", masters, err)
	}
	if got := statusOf(t, store, masterIDs[2]); got != fleet.Launch {
		t.Errorf("the master that lives: %q", got)
	}
	left, err := queues.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: queue.QueueUrl,
		AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll}})
	must(t, err)
	var visible, held int
	fmt.Sscan(left.Attributes["ApproximateNumberOfMessages"], &visible)
	fmt.Sscan(left.Attributes["ApproximateNumberOfMessagesNotVisible"], &held)
	if left := visible + held; left < poison || left > poison+1 {
		t.Errorf("%d messages are left, want the %d poisonous, and for a time one that EC2 refutes", left, poison)
	}
}

// motoGroups: instances that a group starts and ends, and no message reports;
// one that is detached, and one that is stopped.
func motoGroups(t *testing.T, cfg aws.Config) {
	ctx := t.Context()
	instances, groups := ec2.NewFromConfig(cfg), autoscaling.NewFromConfig(cfg)
	images, err := instances.DescribeImages(ctx, &ec2.DescribeImagesInput{MaxResults: aws.Int32(5)})
	must(t, err)
	_, err = instances.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("web"),
		LaunchTemplateData: &ec2types.RequestLaunchTemplateData{ImageId: images.Images[0].ImageId,
			InstanceType: "t3.micro"}})
	must(t, err)
	_, err = groups.CreateAutoScalingGroup(ctx,
		&autoscaling.CreateAutoScalingGroupInput{AutoScalingGroupName: aws.String("web"),
			MinSize: aws.Int32(0), MaxSize: aws.Int32(10), DesiredCapacity: aws.Int32(4),
			AvailabilityZones: []string{moto.Region + "a"},
			LaunchTemplate: &autoscalingtypes.LaunchTemplateSpecification{LaunchTemplateName: aws.String("web"),
				Version: aws.String("1")}})
	must(t, err)

	for name, transition := range map[string]string{upHook: "LAUNCHING", downHook: "TERMINATING",
		"foreign": "TERMINATING"} {
		_, err = groups.PutLifecycleHook(ctx,
			&autoscaling.PutLifecycleHookInput{AutoScalingGroupName: aws.String("web"), LifecycleHookName: &name,
				LifecycleTransition: aws.String("autoscaling:EC2_INSTANCE_" + transition),
				HeartbeatTimeout:    aws.Int32(120)})
		must(t, err)
	}

	store := newStore(t)
	log := &lines{}
	c := Config{Groups: webAndMasters, Hooks: ourNames, Attempts: 3}
	hooks, err := NewHooks(c, store, groups, log.logger())
	must(t, err)
	rec, err := NewReconciler(c, store, groups, instances, hooks, log.logger())
	must(t, err)
	must(t, rec.Pass(ctx))
	var ids []string
	must(t, store.ByStatus(ctx, fleet.Launch, "", func(page []fleet.Minion) error {
		for _, row := range page {
			if ids = append(ids, row.InstanceID); row.Group != "web" {
				t.Errorf("%+v", row)
			}
		}
		return nil
	}))
	if len(ids) != 4 || !slices.Equal(rec.Report().Missing, []string{"salt"}) {
		t.Fatalf("found %v, missing %v", ids, rec.Report().Missing)
	}
	known, err := hooks.configured(ctx, "web")
	slices.SortFunc(known, func(a, b hook) int { return strings.Compare(a.name, b.name) })
	if want := []hook{{upHook, Launched, 2 * time.Minute}, {downHook, Ended, 2 * time.Minute}}; err != nil ||
		!slices.Equal(known, want) {
		t.Errorf("hooks %+v, %v", known, err)
	}
	states, err := hooks.states(ctx, append([]string{instance(1)}, ids...))
	if err != nil || len(states) != 4 || states[ids[0]] != "InService" {
		t.Errorf("states %v, %v", states, err)
	}

	_, err = groups.TerminateInstanceInAutoScalingGroup(ctx,
		&autoscaling.TerminateInstanceInAutoScalingGroupInput{
			InstanceId: &ids[0], ShouldDecrementDesiredCapacity: aws.Bool(true)})
	must(t, err)
	_, err = groups.DetachInstances(ctx, &autoscaling.DetachInstancesInput{AutoScalingGroupName: aws.String("web"),
		InstanceIds: ids[1:3], ShouldDecrementDesiredCapacity: aws.Bool(true)})
	must(t, err)
	_, err = instances.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: ids[2:3]})
	must(t, err)
	for range 3 {
		must(t, rec.Pass(ctx))
	}
	for i, id := range ids {
		want := fleet.Launch
		if i == 0 {
			want = fleet.Terminate
		}
		if got := statusOf(t, store, id); got != want {
			t.Errorf("%d, %s: %q, want %q", i, id, got, want)
		}
	}

	// The same fleet seen with credentials of another region: nothing is there.
	elsewhere := cfg.Copy()
	elsewhere.Region = "eu-central-1"
	rec, err = NewReconciler(c, store, autoscaling.NewFromConfig(elsewhere), ec2.NewFromConfig(elsewhere),
		hooks, log.logger())
	must(t, err)
	for range 3 {
		must(t, rec.Pass(ctx))
	}
	if r := rec.Report(); len(r.Unknown) != 3 || len(r.Missing) != 2 || len(r.Held) != 0 ||
		statusOf(t, store, ids[3]) != fleet.Launch {
		t.Errorf("%+v", r)
	}
}

// motoNoQueue: a queue that does not exist is reported with the one thing to do.
func motoNoQueue(t *testing.T, cfg aws.Config) {
	store, log := newStore(t), &lines{}
	c := Config{Queues: []Item{{"", "nowhere"}}}
	hooks, err := NewHooks(c, store, autoscaling.NewFromConfig(cfg), log.logger())
	must(t, err)
	reader, err := NewReader(c, store, sqs.NewFromConfig(cfg), ec2.NewFromConfig(cfg), hooks, log.logger())
	must(t, err)
	run(t, reader.Run)
	eventually(t, func() string {
		if log.count("see sqs.queues") != 1 {
			return "nothing is told"
		}
		return ""
	})
}

// run runs f until the test ends.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// eventually asks until missing says nothing.
func eventually(t *testing.T, missing func() string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.After(within)
	for said := missing(); said != ""; said = missing() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("after %v: %s", within, strings.TrimSpace(said))
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
