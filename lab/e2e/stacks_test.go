package e2e_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"phoenix/bridge/fleet"
	"phoenix/lab"
	"phoenix/lab/moto"
	"phoenix/lab/stacks"
)

// TestStacksAreUsed: a bridge runs on the tables and the queue that base.yaml made,
// and an instance that the group of fleet.yaml starts is let in and runs its first
// highstate, told by the queue. All of it is moto's, which sends nothing by EventBridge
// itself: the message is sent to the queue in the form that the rule would give it.
func TestStacksAreUsed(t *testing.T) {
	t.Parallel()
	cfg := moto.Start(t)
	base := stacks.CreateBase(t, cfg)
	const masters, minions = stacks.Base + "-masters", stacks.Base + "-minions"
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
	bridge := l.NewBridge(lab.BridgeOptions{Master: master, Store: "dynamodb:",
		Env: []string{"AWS_ENDPOINT_URL=" + *cfg.BaseEndpoint}, Config: map[string]any{
			"instance_id": "i-0123456789abcdef0",
			"dynamodb": map[string]any{"minions_table": base.Outputs["MinionsTable"],
				"masters_table": base.Outputs["MastersTable"],
				"proofs_table":  base.Outputs["ProofsTable"]},
			"sqs":         map[string]any{"queues": []string{base.Outputs["Queue"]}},
			"autoscaling": map[string]any{"groups": []string{"masters:" + masters, minions}},
		}})
	master.Ready()
	bridge.Start()
	bridge.Ready()

	stacks.CreateFleet(t, cfg, map[string]string{"MinionsAtLeast": "1"})
	groups, err := autoscaling.NewFromConfig(cfg).DescribeAutoScalingGroups(t.Context(),
		&autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{minions}})
	if err != nil || len(groups.AutoScalingGroups) != 1 || len(groups.AutoScalingGroups[0].Instances) != 1 {
		t.Fatalf("instances of %s: %+v, %v", minions, groups, err)
	}
	id := *groups.AutoScalingGroups[0].Instances[0].InstanceId
	minion := l.StartMinion(lab.MinionOptions{ID: id, Masters: []*lab.Master{master}})
	l.Eventually(within, "its key is pending: nobody has told of it", func() (bool, string) {
		return len(master.Pending()) == 1, fmt.Sprint(master.Pending())
	})
	queue := sqs.NewFromConfig(cfg)
	url, err := queue.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String(base.Outputs["Queue"])})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"version": "0", "id": "12345678-1234-1234-1234-123456789012",
		"detail-type": "EC2 Instance Launch Successful", "source": "aws.autoscaling", "account": "123456789012",
		"time": fleet.FormatTime(time.Now()), "region": cfg.Region, "resources": []string{},
		"detail": map[string]any{"AutoScalingGroupName": minions, "EC2InstanceId": id, "Origin": "EC2",
			"Destination": "AutoScalingGroup"}})
	if err != nil {
		t.Fatal(err)
	}
	told := time.Now()
	if _, err := queue.SendMessage(t.Context(),
		&sqs.SendMessageInput{QueueUrl: url.QueueUrl, MessageBody: aws.String(string(body))}); err != nil {
		t.Fatal(err)
	}
	var row fleet.Minion
	l.Eventually(within, "the instance's first highstate is on record", func() (bool, string) {
		row = bridge.Minions()[id]
		return row.HighstateRan, fmt.Sprintf("%+v\n%s", row, bridge.Tail())
	})
	t.Logf("from the message of the launch to the first highstate on record: %.1f s", time.Since(told).Seconds())
	if minion.Runs() != 1 || row.Group != minions || row.Adopted() {
		t.Errorf("ran %d times; row %+v", minion.Runs(), row)
	}
}
