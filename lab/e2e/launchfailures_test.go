package e2e_test

import (
	"fmt"
	"net/url"
	"sync"
	"testing"

	"phoenix/lab"
	"phoenix/lab/awsproxy"
)

// TestLaunchFailures: one bad commit breaks the states of a group that replaces what is
// given up. With autoscaling.launch_failures: 2, two instances are replaced and the third
// is kept, whichever of two masters decides; then nobody else runs the broken states.
// Once they are repaired, the kept instance is highstated by hand, and the next one that
// fails is replaced again. Minions, masters and highstates are real. The test is the
// group: moto keeps no instance in Pending:Wait, and replaces none that is abandoned.
func TestLaunchFailures(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	l := lab.New(t)
	group := launchGroup{results: map[string]string{}}
	c.api.Answer(group.answer)
	first := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
	first.Ready()
	masters := []*lab.Master{first, l.StartMaster(lab.MasterOptions{Version: lab.Salt3007, KeyFrom: first})}
	masters[1].Ready()
	ids := c.group("web", 5)
	c.hook("web", "phoenix-launching", "LAUNCHING")
	var bridges []*lab.Bridge
	for i, m := range masters {
		b := l.NewBridge(lab.BridgeOptions{Master: m, Store: "dynamodb:", Env: c.instance(ghost(i + 1)),
			Config: map[string]any{
				"instance_id": "", "admit": "listed", "dynamodb": map[string]any{"endpoint": c.tables.URL},
				"sqs":         map[string]any{"queues": []string{queueName}, "endpoint": c.api.URL},
				"autoscaling": map[string]any{"groups": []string{"web"}, "endpoint": c.api.URL, "launch_failures": 2},
				"highstate":   map[string]any{"attempts": 1},
			}})
		b.Start()
		b.Ready()
		bridges = append(bridges, b)
	}
	// launch is what the group does: an instance at a time, the next when one is given up.
	launch := func(i int, s lab.State) (*lab.Minion, string) {
		t.Helper()
		id := ids[i]
		m := l.StartMinion(lab.MinionOptions{ID: id, Masters: masters[i%2 : i%2+1], State: s})
		c.publish(held("LAUNCHING", id, "web", "phoenix-launching"))
		l.Eventually(within, "its hook is ended", func() (bool, string) {
			return group.result(id) != "", fmt.Sprintf("%+v\n%s\n%s", bridges[0].Minions()[id], bridges[0].Tail(),
				bridges[1].Tail())
		})
		result := group.result(id)
		if result == "ABANDON" { // AutoScaling terminates it
			m.Kill()
			c.end(id)
			c.publish(notice("TERMINATE", id, "web"))
			l.Eventually(within, "its row says so", func() (bool, string) {
				row := bridges[0].Minions()[id]
				return row.Status == "TERMINATE", fmt.Sprintf("%+v", row)
			})
		}
		return m, result
	}
	broken := lab.State{Fail: -1}
	ran := 0
	for i, want := range []string{"ABANDON", "ABANDON", "CONTINUE"} {
		m, got := launch(i, broken)
		if got != want {
			t.Fatalf("instance %d: %s, want %s", i+1, got, want)
		}
		ran += m.Runs()
		if want != "CONTINUE" {
			continue
		}
		kept := 0
		for _, b := range bridges {
			kept += len(queueOf(b).Kept)
		}
		if row := bridges[0].Minions()[m.ID]; kept != 1 || row.Status != "LAUNCH" || row.HighstateRan {
			t.Errorf("%d kept; row %+v", kept, row)
		}
		// The states are repaired, and the evidence is turned into a working instance.
		m.Behave(lab.State{})
		bridges[0].Phoenix("highstate", "run", m.ID)
		l.Eventually(within, "the kept instance is in order", func() (bool, string) {
			row := bridges[0].Minions()[m.ID]
			return row.HighstateRan, fmt.Sprintf("%+v", row)
		})
	}
	if ran != 3 {
		t.Errorf("the broken states ran %d times", ran)
	}
	t.Logf("%d instances ran the broken states, of which two were replaced", ran)
	if _, got := launch(3, lab.State{}); got != "CONTINUE" {
		t.Errorf("a good one: %s", got)
	}
	if _, got := launch(4, broken); got != "ABANDON" {
		t.Errorf("a failure after a success: %s", got)
	}
}

// launchGroup answers for a group whose instances wait in a launching hook.
type launchGroup struct {
	mu      sync.Mutex
	results map[string]string // by instance
}

func (g *launchGroup) result(id string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.results[id]
}

func (g *launchGroup) answer(c awsproxy.Call) *awsproxy.Answer {
	form, err := url.ParseQuery(string(c.Body))
	if err != nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch c.Action {
	case "CompleteLifecycleAction":
		g.results[form.Get("InstanceId")] = form.Get("LifecycleActionResult")
		return &awsproxy.Answer{Status: 200}
	case "RecordLifecycleActionHeartbeat":
		return &awsproxy.Answer{Status: 200}
	case "DescribeAutoScalingInstances":
		items := ""
		for key, id := range form {
			if key == "Version" || key == "Action" || len(id) != 1 || len(id[0]) < 10 || id[0][:2] != "i-" {
				continue
			}
			state := "Pending:Wait"
			if g.results[id[0]] != "" {
				state = "InService"
			}
			items += fmt.Sprintf(`<member><InstanceId>%s</InstanceId><AutoScalingGroupName>web</AutoScalingGroupName><LifecycleState>%s</LifecycleState><HealthStatus>HEALTHY</HealthStatus><AvailabilityZone>us-west-2a</AvailabilityZone><ProtectedFromScaleIn>false</ProtectedFromScaleIn></member>`, id[0], state)
		}
		return &awsproxy.Answer{Status: 200,
			Body: `<DescribeAutoScalingInstancesResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><DescribeAutoScalingInstancesResult><AutoScalingInstances>` + items + `</AutoScalingInstances></DescribeAutoScalingInstancesResult></DescribeAutoScalingInstancesResponse>`}
	}
	return nil
}
