package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/lab"
	"phoenix/lab/awsproxy"
)

// TestLeavingMasterWaitsForMinions: a master that its group terminates drains, and its
// lifecycle hook lets it go when the last minion has left it, not before; its row says
// so. AutoScaling's word that it terminates, which moto never gives, comes from the proxy.
func TestLeavingMasterWaitsForMinions(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
	c := newCloud(t)
	master.Ready()
	self, web := c.group("salt", 1)[0], c.group("web", 1)[0]
	c.hook("salt", "phoenix-terminating", "TERMINATING")
	c.api.Answer(func(call awsproxy.Call) *awsproxy.Answer {
		switch {
		case call.Action == "CompleteLifecycleAction":
			return &awsproxy.Answer{Status: 200}
		case call.Action == "DescribeAutoScalingInstances" && call.Mentions(self):
			return &awsproxy.Answer{Status: 200,
				Body: `<DescribeAutoScalingInstancesResponse><DescribeAutoScalingInstancesResult><AutoScalingInstances><member>` +
					`<InstanceId>` + self + `</InstanceId><AutoScalingGroupName>salt</AutoScalingGroupName><LifecycleState>Terminating:Wait</LifecycleState>` +
					`</member></AutoScalingInstances></DescribeAutoScalingInstancesResult></DescribeAutoScalingInstancesResponse>`}
		}
		return nil
	})
	bridge := c.bridge(l, master, c.instance(self))
	bridge.Start()
	minion := l.StartMinion(lab.MinionOptions{ID: web, Masters: []*lab.Master{master}})
	c.prove(minion)
	c.publish(notice("LAUNCH", web, "web"))
	bridge.Ready()
	l.Eventually(within, "the highstate is on record", func() (bool, string) {
		row := bridge.Minions()[web]
		return row.HighstateRan, fmt.Sprintf("%+v\n%s", row, bridge.Tail())
	})
	row := func() (m fleet.Master) {
		t.Helper()
		rows, err := c.store.Masters(t.Context())
		c.must(err)
		for _, r := range rows {
			if r.InstanceID == self {
				m = r
			}
		}
		return m
	}

	c.publish(held("TERMINATING", self, "salt", "phoenix-terminating"))
	l.Eventually(within, "the master drains", func() (bool, string) {
		m := row()
		return m.Draining && m.Status == fleet.Launch, fmt.Sprintf("%+v\n%s", m, bridge.Tail())
	})
	l.Never(40*time.Second, "the hook was ended while a minion is there", func() (bool, string) {
		return c.api.Count("autoscaling:CompleteLifecycleAction") > 0, bridge.Tail()
	})
	left := time.Now()
	minion.Kill()
	l.Eventually(within, "the hook is ended", func() (bool, string) {
		return c.api.Count("autoscaling:CompleteLifecycleAction") == 1 && row().Status == fleet.Terminate,
			fmt.Sprintf("%+v\n%s", row(), bridge.Tail())
	})
	t.Logf("the hook was ended %.0f s after the last minion left", time.Since(left).Seconds())
	if why := bridge.Grep("terminating master let go"); len(why) != 1 ||
		!strings.Contains(why[0], "no minion is left on it") {
		t.Errorf("why it was let go: %q", why)
	}
}
