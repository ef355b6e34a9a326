package service

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// inService is AutoScaling, in which all instances are in service. It is here for
// what the fleet is asked in consequence.
type inService []string

func (g inService) DescribeAutoScalingGroups(_ context.Context, in *sdk.DescribeAutoScalingGroupsInput,
	_ ...func(*sdk.Options)) (*sdk.DescribeAutoScalingGroupsOutput, error) {
	group := types.AutoScalingGroup{AutoScalingGroupName: aws.String(in.AutoScalingGroupNames[0])}
	for _, id := range g {
		group.Instances = append(group.Instances,
			types.Instance{InstanceId: aws.String(id), LifecycleState: types.LifecycleStateInService})
	}
	return &sdk.DescribeAutoScalingGroupsOutput{AutoScalingGroups: []types.AutoScalingGroup{group}}, nil
}

func (inService) DescribeInstances(context.Context, *ec2.DescribeInstancesInput,
	...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	return nil, fmt.Errorf("an idle fleet asks EC2 for nothing")
}

func (inService) CompleteLifecycleAction(context.Context, *sdk.CompleteLifecycleActionInput,
	...func(*sdk.Options)) (*sdk.CompleteLifecycleActionOutput, error) {
	return nil, fmt.Errorf("no hook waits")
}

func (inService) RecordLifecycleActionHeartbeat(context.Context, *sdk.RecordLifecycleActionHeartbeatInput,
	...func(*sdk.Options)) (*sdk.RecordLifecycleActionHeartbeatOutput, error) {
	return nil, fmt.Errorf("no hook waits")
}

func (inService) DescribeLifecycleHooks(context.Context, *sdk.DescribeLifecycleHooksInput,
	...func(*sdk.Options)) (*sdk.DescribeLifecycleHooksOutput, error) {
	return nil, fmt.Errorf("no hook waits")
}

func (inService) DescribeAutoScalingInstances(context.Context, *sdk.DescribeAutoScalingInstancesInput,
	...func(*sdk.Options)) (*sdk.DescribeAutoScalingInstancesOutput, error) {
	return nil, fmt.Errorf("no hook waits")
}

// chore is something that a master, or an agent, does again and again.
type chore struct {
	name  string
	every time.Duration
	bill
}

// agentEvery is the default of agent.interval, which agents lengthen by up to a
// fifth, by chance.
const agentEvery = time.Minute

// idle makes a fleet of n minions whose highstates ran long ago, and counts what
// each chore asks of the tables. In the end a whole hour of the engine is counted,
// and compared with the sum of its chores.
func idle(t *testing.T, n int) (master []chore, each chore) {
	t.Helper()
	store, m := metered(t)
	key := []byte(lab.UnknownKey())
	digest, err := fleet.KeyDigest(key)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	var changes []fleet.Change
	for i := range n {
		id := fmt.Sprintf("i-%017x", i)
		jid := "20260101000000000001"
		ids = append(ids, id)
		changes = append(changes, fleet.Add{InstanceID: id, Group: "web"},
			fleet.Bind{InstanceID: id, KeySHA256: digest, PublicKey: string(key)},
			fleet.Claim{InstanceID: id, Owner: "i-0000000000000000a", Incarnation: "0123456789abcdef",
				JID: jid, Attempt: 1},
			fleet.Finish{InstanceID: id, JID: jid, Outcome: fleet.Succeeded})
	}
	for chunk := range slices.Chunk(changes, 400) {
		if _, err := store.Apply(t.Context(), chunk); err != nil {
			t.Fatal(err)
		}
	}
	m.take()
	count := func(name string, every time.Duration, do func()) chore {
		t.Helper()
		do()
		c := chore{name, every, m.take()}
		t.Logf("%4d minions: %-32s %v; %.1f, %.1f units", n, name, c.bill, c.read, c.write)
		return c
	}
	var r *rig
	count("start", 0, func() {
		r = newRig(t, store, func(c *Config) { c.ResyncEvery, c.PollEvery = ResyncEvery, time.Minute })
		for _, id := range ids {
			r.salt.keys[salt.Accepted][id] = key
		}
		r.engine.resyncs.at = time.Time{}
		r.step()
	})
	compare := func() {
		for more := true; more; more = r.engine.resyncs.running != nil {
			if err := r.engine.resync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.pass(24 * time.Hour) // since the last row changed
	compare()
	m.take()
	r.engine.resyncs.fullAt = time.Time{}
	full := count("comparison with all rows", fullEvery, compare)
	quick := count("comparison", ResyncEvery, func() {
		r.pass(ResyncEvery)
		compare()
	})
	poll := count("terminations", time.Minute, func() {
		if err := r.engine.pollTerminated(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	log := slog.New(slog.DiscardHandler)
	beats := NewHeartbeats(store, fleet.Beat{InstanceID: "i-0000000000000000a", IPAddr: "10.0.0.1", Incarnation: "1"},
		30*time.Second, time.Now, log)
	beat := count("heartbeat", beatEvery, func() { beats.Tick(t.Context()) })
	cfg := autoscaling.Config{Groups: []autoscaling.Item{{Name: "web"}}}
	groups := inService(append(ids, "i-0000000000000000a"))
	hooks, err := autoscaling.NewHooks(cfg, store, groups, log)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := autoscaling.NewReconciler(cfg, store, inService(ids), groups, hooks, log)
	if err != nil {
		t.Fatal(err)
	}
	pass := func() {
		if err := rec.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pass() // the first asks when the fleet began, once
	m.take()
	reconciled := count("comparison with AutoScaling", autoscaling.ReconcileEvery, pass)
	lagging := m.open(t, true)
	each = count("an agent's list of masters", agentEvery, func() {
		if _, err := lagging.Masters(t.Context()); err != nil {
			t.Fatal(err)
		}
	})

	r.engine.Step(t.Context())
	m.take()
	r.engine.resyncs.fullAt, r.engine.terminations.fullAt = r.clock.Add(time.Hour), r.clock.Add(time.Hour)
	end := r.clock.Add(time.Hour)
	hour := count("an hour of the engine", 0, func() {
		for next := r.engine.Step(t.Context()); next.Before(end); next = r.engine.Step(t.Context()) {
			r.clock = next
		}
		r.clock = end
		for more := true; more; more = r.engine.resyncs.running != nil {
			r.engine.Step(t.Context())
		}
	})
	// 30 comparisons, the last of which is with all rows, and 60 looks at terminations.
	want := 29*quick.reads() + full.reads() + 60*poll.reads()
	if hour.writes() != 0 || hour.reads() < want-2 || hour.reads() > want+2 {
		t.Errorf("an hour costs %v, and its chores %d reads", hour.bill, want)
	}
	return []chore{beat, poll, quick, full, reconciled}, each
}
