package e2e_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/fleet"
	"phoenix/lab"
	"phoenix/lab/awsproxy"
)

const (
	// gone bounds the end of a minion's keys: up to a minute until the other
	// master reads of it, and up to another since the last keys were deleted;
	// where no message tells of it, two passes before.
	gone = 5 * time.Minute
	// long is a highstate that a lifecycle hook has to be prolonged for, which
	// happens every two minutes.
	long = 125 * time.Second
	// ghosts are instances on which no minion runs.
	ghosts = 20
)

// TestG6_Queues: two masters that share key, tables and queue, as the templates
// set them up; messages that come shuffled, repeated, with poison among them,
// late, and one that never comes.
func TestG6_Queues(t *testing.T) {
	t.Parallel()
	const version = lab.Salt3007
	l := lab.New(t)
	first := l.StartMaster(lab.MasterOptions{Version: version})
	c := newCloud(t)
	first.Ready()
	second := l.StartMaster(lab.MasterOptions{Version: version, KeyFrom: first})
	ids := c.group("salt", 2)
	b := &messages{cloud: c, lab: l, masters: []*lab.Master{first, second}}
	for i, master := range b.masters {
		b.bridges = append(b.bridges, c.bridge(l, master, c.instance(ids[i])))
	}
	c.api.Answer(b.endHook)
	second.Ready()
	for _, bridge := range b.bridges {
		bridge.Start()
	}
	web := c.group("web", 4)
	c.hook("web", "phoenix-launching", "LAUNCHING")
	c.hook("web", "phoenix-terminating", "TERMINATING")
	b.launch(t, ids, web)
	for i, id := range web {
		var state lab.State
		if i == 3 {
			state.Seconds = long.Seconds()
		}
		b.minions = append(b.minions, l.StartMinion(lab.MinionOptions{ID: id, Masters: b.masters, State: state}))
	}
	for _, m := range b.minions {
		c.prove(m)
	}
	for _, bridge := range b.bridges {
		bridge.Ready()
	}
	for _, part := range []struct {
		what string
		do   func(t *testing.T)
	}{
		{"accepted and highstated", b.accepted},
		{"terminated, told of and not", b.terminate},
		{"late launches", b.lateLaunch},
		{"lifecycle hook", b.heldByHook},
		{"reckoning", b.reckon},
		{"forgotten", b.forget},
		{"permitted", b.permitted},
	} {
		begun := time.Now()
		part.do(t)
		t.Logf("%s: %.0f s", part.what, time.Since(begun).Seconds())
	}
}

// messages is the test's state: four minions, of which the second is terminated
// and told of, the third terminated and not told of, and the fourth held by a
// lifecycle hook.
type messages struct {
	*cloud
	lab     *lab.Lab
	masters []*lab.Master
	bridges []*lab.Bridge
	minions []*lab.Minion
	poison  int
}

// endHook answers in AutoScaling's stead, since moto answers 500.
func (b *messages) endHook(c awsproxy.Call) *awsproxy.Answer {
	if c.Action == "CompleteLifecycleAction" || c.Action == "RecordLifecycleActionHeartbeat" {
		return &awsproxy.Answer{Status: 200}
	}
	return nil
}

// ghost returns the id of an instance that moto does not have.
func ghost(n int) string { return fmt.Sprintf("i-0000000000000%04x", n) }

// launch tells of all instances, and of the end of some of the ghosts: each one to
// three times, in any order, a launch after its termination included.
func (b *messages) launch(t *testing.T, masters, web []string) {
	t.Helper()
	once := []string{held("LAUNCHING", web[3], "web", "phoenix-launching"), notice("LAUNCH", ghost(ghosts), "another")}
	for _, id := range web[:3] {
		once = append(once, notice("LAUNCH", id, "web"))
	}
	for _, id := range masters {
		once = append(once, notice("LAUNCH", id, "salt"))
	}
	for n := range ghosts {
		once = append(once, notice("LAUNCH", ghost(n), "web"))
		if n%4 == 0 { // fewer than messages alone may end
			once = append(once, notice("TERMINATE", ghost(n), "web"))
		}
	}
	// Other people's, and what calls a master terminated that lives, as EC2 says.
	once = append(once, `["a list"]`, `"a text"`, "null", notice("EXPLODE", ghost(0), "web"),
		`{"Event":"`+strings.Repeat("x", 255<<10)+`"}`,
		held("TERMINATING", web[0], "web", "another"), held("TERMINATING", masters[0], "salt", "phoenix-terminating"))
	bad := []string{
		"{", told(map[string]string{"Event": "autoscaling:EC2_INSTANCE_LAUNCH"}), notice("LAUNCH", "i-0*", "web"),
		notice("LAUNCH", "../../etc", "web"),
	}
	b.poison = len(bad)
	all := bad
	for _, body := range once {
		for range 1 + rand.IntN(3) {
			all = append(all, body)
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, body := range all {
		b.publish(body)
	}
	// As much as SQS takes at a time, past the topic.
	big := string(bytes.Repeat([]byte("x"), 256<<10))
	_, err := b.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &b.queue, MessageBody: &big})
	b.must(err)
	b.poison++
	t.Logf("%d messages, %d of them poison", len(all)+1, b.poison)
}

// accepted: each launched minion is accepted by both masters and highstated once.
func (b *messages) accepted(t *testing.T) {
	t.Helper()
	b.lab.Eventually(within, "three highstates are on record, and the fourth has begun", func() (bool, string) {
		rows := b.bridges[0].Minions()
		for _, m := range b.minions[:3] {
			if !rows[m.ID].HighstateRan {
				return false, fmt.Sprintf("%+v", rows[m.ID])
			}
		}
		return b.minions[3].Runs() == 1, fmt.Sprintf("%+v", rows[b.minions[3].ID])
	})
	b.lab.Eventually(within, "both masters have accepted all four", func() (bool, string) {
		for _, master := range b.masters {
			for _, m := range b.minions {
				if !master.HasAccepted(m.ID) {
					return false, fmt.Sprintf("%s: %v", master.Name, master.Accepted())
				}
			}
		}
		return true, ""
	})
}

// terminate ends two minions. Of the one, messages tell; the other's never come,
// and the bridge that starts anew asks.
func (b *messages) terminate(t *testing.T) {
	t.Helper()
	told, lost := b.minions[1], b.minions[2]
	begun := time.Now()
	b.end(told.ID)
	b.end(lost.ID)
	lost.Kill()
	// Moto keeps no instance in Pending:Wait, by which another master would take
	// the hook up.
	other := slices.IndexFunc(b.bridges, func(bridge *lab.Bridge) bool { return queueOf(bridge).Hooks == 0 })
	other = max(other, 0) // both tend it: the message came twice
	b.bridges[other].Kill()
	b.bridges[other].Start()
	for _, body := range []string{notice("LAUNCH", told.ID, "web"),
		held("TERMINATING", told.ID, "web", "phoenix-terminating"), notice("LAUNCH", told.ID, "web")} {
		b.publish(body)
	}
	for _, m := range []*lab.Minion{told, lost} {
		b.lab.Eventually(gone, "the keys of "+m.ID+" are gone from both masters", func() (bool, string) {
			for _, master := range b.masters {
				if holds(master, m.ID) {
					return false, fmt.Sprintf("%s; row %+v", master.Name, b.bridges[0].Minions()[m.ID])
				}
			}
			return true, ""
		})
		t.Logf("%s: its keys were gone from both masters %.0f s after its end", m.ID, time.Since(begun).Seconds())
	}
	rows := b.bridges[0].Minions()
	if rows[told.ID].Inferred || !rows[lost.ID].Inferred {
		t.Errorf("inferred are %+v, %+v", rows[told.ID], rows[lost.ID])
	}
}

// holds reports whether a master holds a key that is not merely pending.
func holds(master *lab.Master, id string) bool {
	return slices.Contains(slices.Concat(master.Accepted(), master.Denied(), master.Rejected()), id)
}

// ended returns the calls that ended a lifecycle hook.
func (b *messages) ended(hook string) (calls []awsproxy.Call) {
	for _, c := range b.api.Calls() {
		if c.Action == "CompleteLifecycleAction" && c.Mentions("LifecycleHookName="+hook) {
			calls = append(calls, c)
		}
	}
	return calls
}

// lateLaunch tells of the launches again: the terminated minions, one of which
// still authenticates, come back nowhere. The tables are throttled meanwhile, for longer
// than a message is in hand without a word to SQS.
func (b *messages) lateLaunch(t *testing.T) {
	t.Helper()
	b.tables.Answer(func(c awsproxy.Call) *awsproxy.Answer {
		if c.Action == "UpdateItem" && c.On == "minions" {
			return &awsproxy.Answer{Status: 400, Code: "ProvisionedThroughputExceededException"}
		}
		return nil
	})
	for range 2 {
		for _, m := range b.minions[1:3] {
			b.publish(notice("LAUNCH", m.ID, "web"))
		}
	}
	b.lab.Eventually(within, "SQS is told that it takes longer", func() (bool, string) {
		return b.api.Count("sqs:ChangeMessageVisibilityBatch") > 0, fmt.Sprintf("%d messages", b.waiting())
	})
	b.tables.Answer(nil)
	b.lab.Eventually(within, "only poison is left in the queue", func() (bool, string) {
		n := b.waiting()
		return n == b.poison, fmt.Sprintf("%d messages, %d of them poison", n, b.poison)
	})
	b.lab.Never(settle, "a late launch revived somebody", func() (bool, string) {
		for _, m := range b.minions[1:3] {
			for _, master := range b.masters {
				if master.HasAccepted(m.ID) {
					return true, master.Name + " accepted " + m.ID
				}
			}
		}
		return false, ""
	})
	rows := b.bridges[0].Minions()
	for _, m := range b.minions[1:3] {
		if rows[m.ID].Status != fleet.Terminate {
			t.Errorf("%+v", rows[m.ID])
		}
	}
}

// heldByHook: the hook was prolonged while the highstate ran, and ended after it.
func (b *messages) heldByHook(t *testing.T) {
	t.Helper()
	m := b.minions[3]
	b.lab.Eventually(within, "the lifecycle hooks are ended", func() (bool, string) {
		return len(b.ended("phoenix-launching")) > 0 && len(b.ended("phoenix-terminating")) > 0,
			fmt.Sprintf("%+v, %+v", m.RunLog(), b.bridges[0].Minions()[m.ID])
	})
	if row, runs := b.bridges[0].Minions()[m.ID], m.RunLog(); !row.HighstateRan || len(runs) != 1 || !runs[0].OK {
		t.Errorf("the hook was ended before its highstate: %+v, %+v", row, runs)
	}
	if n := b.api.Count("autoscaling:RecordLifecycleActionHeartbeat"); n == 0 {
		t.Error("the hook was not prolonged")
	}
	for hook, id := range map[string]string{"phoenix-launching": m.ID, "phoenix-terminating": b.minions[1].ID} {
		for _, c := range b.ended(hook) {
			if !c.Mentions(id) || !c.Mentions("LifecycleActionResult=CONTINUE") {
				t.Errorf("%s", c.Body)
			}
		}
	}
}

// reckon looks at what has become of all.
func (b *messages) reckon(t *testing.T) {
	t.Helper()
	rows := b.bridges[0].Minions()
	for _, m := range b.minions {
		if runs := m.RunLog(); len(runs) != 1 || !runs[0].OK {
			t.Errorf("%s ran %+v", m.ID, runs)
		}
	}
	for n := range ghosts {
		want := fleet.Launch
		if n%4 == 0 {
			want = fleet.Terminate
		}
		if row := rows[ghost(n)]; row.Status != want || row.Group != "web" {
			t.Errorf("ghost %d: %+v", n, row)
		}
	}
	for _, bridge := range b.bridges { // each master runs a minion, too
		var status struct{ Bridge struct{ InstanceID string } }
		bridge.JSON(&status, "status")
		if row := rows[status.Bridge.InstanceID]; row.Status != fleet.Launch || row.Group != "salt" {
			t.Errorf("master's own minion: %+v", row)
		}
	}
	if row, found := rows[ghost(ghosts)]; found {
		t.Errorf("another group's: %+v", row)
	}
	if n := b.waiting(); n != b.poison {
		t.Errorf("%d messages are left, %d were poison", n, b.poison)
	}
	var malformed int64
	refuted := map[string]bool{}
	for _, bridge := range b.bridges {
		q := queueOf(bridge)
		malformed += q.Messages.Malformed
		for _, id := range q.Refuted {
			refuted[id] = true
		}
		if q.Messages.Deleted == 0 || q.Reconcile.Error != "" || len(q.Reconcile.Held)+len(q.Reconcile.Missing) > 0 {
			t.Errorf("%s: %+v, %+v", bridge.Name, q.Messages, q.Reconcile)
		}
		t.Logf("%s: %+v", bridge.Name, *q.Messages)
	}
	if malformed < int64(b.poison) {
		t.Errorf("%d malformed messages were counted, of %d", malformed, b.poison)
	}
	if len(refuted) != 1 {
		t.Errorf("refuted are %v, want one master", refuted)
	}
	if calls := b.ended("another"); len(calls) > 0 {
		t.Errorf("another's hook was ended %d times", len(calls))
	}
	for _, call := range b.tables.Calls() {
		if call.Action == "Scan" && call.On != "masters" {
			t.Errorf("a scan of %s", call.On)
		}
	}
	masters := b.bridges[0].Phoenix("masters", "list", "--json")
	if strings.Count(masters, string(fleet.Launch)) != 2 {
		t.Errorf("masters: %s", masters)
	}
}

// queueOf is what a bridge says of messages and of what it found by asking.
func queueOf(bridge *lab.Bridge) autoscaling.Status {
	var status struct {
		Bridge struct{ Queue autoscaling.Status }
	}
	bridge.JSON(&status, "status")
	return status.Bridge.Queue
}

// forget lets an operator prune what expired 30 days after its instance's end.
func (b *messages) forget(t *testing.T) {
	t.Helper()
	for _, table := range []string{"minions", "masters"} {
		b.put(table, map[string]types.AttributeValue{"instanceid": text(ghost(100)), "status": text("TERMINATE"),
			"modified": text("2026-01-01T00:00:00.000Z"), "expires": &types.AttributeValueMemberN{Value: "1769904000"}})
	}
	if out := b.bridges[0].Phoenix("prune"); !strings.HasPrefix(out, "0 reduced, 2 deleted, ") {
		t.Error(out)
	}
	b.bridges[0].Phoenix("identity", "install")
	b.bridges[0].Phoenix("identity", "show")
	if _, found := b.bridges[0].Minions()[ghost(100)]; found {
		t.Error("a row outlives its pruning")
	}
}

// permitted: the masters' policy allows what they called, and nothing else.
func (b *messages) permitted(t *testing.T) {
	t.Helper()
	permits(t, "iam-master.txt", b.tables, b.api)
}
