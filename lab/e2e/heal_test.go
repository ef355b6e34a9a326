package e2e_test

import (
	"fmt"
	"testing"
	"time"

	awsautoscaling "github.com/aws/aws-sdk-go-v2/service/autoscaling"

	"phoenix/lab"
)

const (
	// healAfter is the shortest that the configuration allows.
	healAfter = time.Minute
	// healWithin bounds how long after that AutoScaling has been told: 15 s until the
	// proof is lost, and what a busy machine adds.
	healWithin = 3 * time.Minute
	// healQuiet is how long it is made sure that no other is told of. The 15 minutes
	// that lie between two masters are the service's test.
	healQuiet = 90 * time.Second
)

// TestHealedOnce: of three masters two fail at the same time, beside their bridges. One
// of the two is called unhealthy, once, in AutoScaling's own record. Then the last one
// fails, and is not.
func TestHealedOnce(t *testing.T) {
	only(t, "health")
	t.Parallel()
	l := lab.New(t)
	c := newCloud(t)
	ids := c.group("salt", 3)
	var bridges []*lab.Bridge
	for _, id := range ids {
		o := lab.MasterOptions{Version: lab.Salt3007}
		if len(bridges) > 0 {
			o.KeyFrom = bridges[0].Master
		}
		m := l.StartMaster(o)
		m.Ready()
		b := c.bridgeWith(l, m, c.instance(id), map[string]any{"heal": map[string]any{"after": healAfter.String()}})
		b.Start()
		b.Ready()
		bridges = append(bridges, b)
	}
	unhealthy := func() (told []string) {
		t.Helper()
		out, err := c.groups.DescribeAutoScalingGroups(t.Context(),
			&awsautoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{"salt"}})
		c.must(err)
		for _, i := range out.AutoScalingGroups[0].Instances {
			if *i.HealthStatus == "Unhealthy" {
				told = append(told, *i.InstanceId)
			}
		}
		return told
	}
	bridges[0].Master.Kill()
	bridges[1].Master.Kill()
	failed := time.Now()
	l.Eventually(healAfter+healWithin, "AutoScaling is told of one", func() (bool, string) {
		return len(unhealthy()) == 1, bridges[0].Tail() + bridges[1].Tail()
	})
	if after := time.Since(failed); after < healAfter {
		t.Errorf("after %v", after)
	}
	first := unhealthy()[0]
	t.Logf("%s was called unhealthy %.0f s after two of three masters failed", first, time.Since(failed).Seconds())
	if first == ids[2] {
		t.Error("it serves")
	}
	bridges[2].Master.Kill()
	l.Never(healAfter+healQuiet, "another is called unhealthy", func() (bool, string) {
		told, calls := unhealthy(), c.api.Count("autoscaling:SetInstanceHealth")
		return len(told) != 1 || told[0] != first || calls != 1, fmt.Sprintf("%v, %d calls", told, calls)
	})
	lines := 0
	for _, b := range bridges {
		lines += len(b.Grep("master called unhealthy"))
	}
	if lines != 1 {
		t.Errorf("%d lines of audit", lines)
	}
}
