package autoscaling

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// fixture reads a message as AWS sends it; see testdata/README.md.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// TestFixtures: each way of delivery, each event.
func TestFixtures(t *testing.T) {
	for name, want := range map[string]Message{
		"sns-launch.json": {Kind: Launched, InstanceID: "i-0598c7d356eba48d7", Group: "web",
			At: at(t, "2026-03-01T23:00:27.282Z")},
		"sns-terminate.json": {Kind: Ended, InstanceID: "i-0598c7d356eba48d7", Group: "web",
			At: at(t, "2026-03-02T01:10:41.006Z")},
		"sns-hook-launching.json": {Kind: Launched, InstanceID: "i-05629ab7d9287e205", Group: "web",
			Hook: "phoenix-launching",
			At:   at(t, "2026-03-23T03:26:43.904Z")},
		"sns-hook-terminating.json": {Kind: Ended, InstanceID: "i-05629ab7d9287e205", Group: "web",
			Hook: "phoenix-terminating",
			At:   at(t, "2026-03-23T04:26:43.904Z")},
		"sns-test.json":         {Kind: Nothing},
		"sns-launch-error.json": {Kind: Nothing},
		"raw-launch.json": {Kind: Launched, InstanceID: "i-18d9deb0", Group: "web",
			At: at(t, "2026-03-01T03:47:11.215Z")},
		"raw-hook-terminating.json": {Kind: Ended, InstanceID: "i-59824f1c", Group: "web", Hook: "phoenix-terminating",
			At: at(t, "2026-06-11T23:53:04.656Z")},
		"raw-test.json": {Kind: Nothing},
		"eventbridge-launch.json": {Kind: Launched, InstanceID: "i-1234567890abcdef0", Group: "web",
			At: at(t, "2026-01-13T00:12:37Z")},
		"eventbridge-terminate.json": {Kind: Ended, InstanceID: "i-1234567890abcdef0", Group: "web",
			At: at(t, "2026-01-13T02:12:37Z")},
		"eventbridge-hook-warm-pool.json": {Kind: Launched, InstanceID: "i-1234567890abcdef0", Group: "web",
			Hook: "phoenix-launching",
			At:   at(t, "2026-01-13T00:12:37.214Z")},
		"eventbridge-hook-from-pool.json": {Kind: Launched, InstanceID: "i-1234567890abcdef0", Group: "web",
			Hook: "phoenix-launching",
			At:   at(t, "2026-01-13T03:12:37.214Z")},
		"eventbridge-hook-into-pool.json": {Kind: Parked, InstanceID: "i-1234567890abcdef0", Group: "web",
			Hook: "phoenix-terminating",
			At:   at(t, "2026-01-13T04:12:37.214Z")},
		"eventbridge-into-pool.json": {Kind: Parked, InstanceID: "i-1234567890abcdef0", Group: "web",
			At: at(t, "2026-01-13T04:13:00Z")},
		"eventbridge-pool-terminate.json": {Kind: Ended, InstanceID: "i-1234567890abcdef0", Group: "web",
			At: at(t, "2026-01-13T05:13:00Z")},
		"eventbridge-refresh.json": {Kind: Nothing},
		"eventbridge-ec2.json":     {Kind: Nothing},
		"eventbridge-spot.json": {Kind: Warned, InstanceID: "i-1234567890abcdef0",
			At: at(t, "2026-01-13T04:13:00Z")},
		"eventbridge-rebalance.json": {Kind: Warned, InstanceID: "i-1234567890abcdef0",
			At: at(t, "2026-01-13T04:13:00Z")},
	} {
		got, err := Parse(fixture(t, name))
		about := got.About
		if got.About = ""; err != nil || got != want || about == "" {
			t.Errorf("%s: %v, about %q\n got %+v\nwant %+v", name, err, about, got, want)
		}
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) != 20 {
		t.Errorf("%d fixtures (%v), 20 are read here", len(files), err)
	}
}

// malformed are messages that stay for the dead-letter queue.
func malformed() map[string]string {
	good := `"AutoScalingGroupName":"web","EC2InstanceId":"i-0598c7d356eba48d7"`
	envelope := func(message string) string {
		text, _ := json.Marshal(map[string]string{"Type": "Notification", "Message": message})
		return string(text)
	}
	return map[string]string{
		"empty":          "",
		"not JSON":       "hello",
		"cut":            `{"Event":"autoscaling:EC2_INSTANCE_LAUNCH",` + good,
		"two values":     `{"Event":"autoscaling:EC2_INSTANCE_LAUNCH",` + good + `}{}`,
		"NUL":            "\x00\x00\x00\x00",
		"id is a number": `{"Event":"autoscaling:EC2_INSTANCE_LAUNCH","AutoScalingGroupName":"web","EC2InstanceId":598}`,
		"no instance":    `{"Event":"autoscaling:EC2_INSTANCE_LAUNCH","AutoScalingGroupName":"web"}`,
		"no group":       `{"Event":"autoscaling:EC2_INSTANCE_LAUNCH","EC2InstanceId":"i-0598c7d356eba48d7"}`,
		"no hook":        `{"LifecycleTransition":"autoscaling:EC2_INSTANCE_LAUNCHING",` + good + `}`,
		"odd time":       `{"Event":"autoscaling:EC2_INSTANCE_LAUNCH","Time":"yesterday",` + good + `}`,
		"glob":           `{"Event":"autoscaling:EC2_INSTANCE_TERMINATE","AutoScalingGroupName":"web","EC2InstanceId":"i-*"}`,
		"path":           `{"Event":"autoscaling:EC2_INSTANCE_TERMINATE","AutoScalingGroupName":"web","EC2InstanceId":"../../x"}`,
		"newline":        `{"Event":"autoscaling:EC2_INSTANCE_TERMINATE","AutoScalingGroupName":"web","EC2InstanceId":"i-0598c7d356eba48d7\n"}`,
		"upper case":     `{"Event":"autoscaling:EC2_INSTANCE_TERMINATE","AutoScalingGroupName":"web","EC2InstanceId":"i-0598C7D356EBA48D7"}`,
		"sixteen digits": `{"Event":"autoscaling:EC2_INSTANCE_TERMINATE","AutoScalingGroupName":"web","EC2InstanceId":"i-0598c7d356eba48d"}`,
		"envelope, text": envelope("Auto Scaling: launch"),
		"subscription":   `{"Type":"SubscriptionConfirmation","Message":"You have chosen to subscribe","SubscribeURL":"https://sns"}`,
		"EventBridge, no detail": `{"source":"aws.autoscaling","detail-type":"EC2 Instance Launch Successful",` + good +
			`}`,
		"EventBridge, other transition": `{"source":"aws.autoscaling","detail-type":"EC2 Instance-launch Lifecycle Action","detail":{` +
			`"LifecycleTransition":"autoscaling:EC2_INSTANCE_TERMINATING","LifecycleHookName":"h",` + good + `}}`,
		"long group": `{"Event":"autoscaling:EC2_INSTANCE_LAUNCH","AutoScalingGroupName":"` + strings.Repeat("x",
			maxName+1) + `","EC2InstanceId":"i-0598c7d356eba48d7"}`,
		"long hook": `{"LifecycleTransition":"autoscaling:EC2_INSTANCE_LAUNCHING","LifecycleHookName":"` +
			strings.Repeat("x", maxName+1) + `",` + good + `}`,
		"long time": `{"Event":"autoscaling:EC2_INSTANCE_LAUNCH","Time":"` + strings.Repeat("x", 1000) +
			`",` + good + `}`,
		"odd warning": `{"source":"aws.ec2","detail-type":"EC2 Spot Instance Interruption Warning","detail":{"instance-id":"i-*"}}`,
		"EventBridge in an envelope, no instance": envelope(`{"source":"aws.autoscaling","detail-type":"EC2 Instance Launch Successful","detail":{"AutoScalingGroupName":"web"}}`),
		"deep":    strings.Repeat("[", 100_000),
		"too big": `{"Event":"autoscaling:TEST_NOTIFICATION","x":"` + strings.Repeat("x", maxBody) + `"}`,
	}
}

// strangers are other people's: valid JSON that says nothing to Phoenix.
func strangers() map[string]string {
	good := `"AutoScalingGroupName":"web","EC2InstanceId":"i-0598c7d356eba48d7"`
	envelope := func(message string) string {
		text, _ := json.Marshal(map[string]string{"Type": "Notification", "Message": message})
		return string(text)
	}
	return map[string]string{
		"null":              "null",
		"a list":            "[1,2]",
		"a string":          `"i-0598c7d356eba48d7"`,
		"no event":          `{` + good + `}`,
		"another's event":   `{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-west-2"}`,
		"a list of records": `{"Records":[{"eventSource":"aws:s3"}]}`,
		"another source": `{"source":"com.example","detail-type":"EC2 Instance Terminate Successful","detail":{` +
			good + `}}`,
		"EC2's, another event": `{"source":"aws.ec2","detail-type":"EC2 Instance State-change Notification","detail":{"instance-id":"i-0598c7d356eba48d7","state":"terminated"}}`,
		"wrong types":          `{"Event":["autoscaling:EC2_INSTANCE_LAUNCH"],` + good + `}`,
		"unknown event":        `{"Event":"autoscaling:EC2_INSTANCE_EXPLODE",` + good + `}`,
		"unknown transition": `{"LifecycleTransition":"autoscaling:EC2_INSTANCE_DANCING","LifecycleHookName":"h",` +
			good + `}`,
		"envelope, no message": `{"Type":"Notification"}`,
		"in an envelope":       envelope(`{"Records":[]}`),
		"envelope in envelope": envelope(envelope(`{"Event":"autoscaling:EC2_INSTANCE_LAUNCH",` + good + `}`)),
		"event beside message": `{"Event":"autoscaling:EC2_INSTANCE_TERMINATE",` + good + `,"Message":"{}"}`,
		"256 KiB":              `{"Event":"` + strings.Repeat("x", 256<<10) + `"}`,
	}
}

func TestStrangers(t *testing.T) {
	for name, text := range strangers() {
		if got, err := Parse([]byte(text)); err != nil || got.Kind != Nothing || got.InstanceID != "" ||
			len(got.About) > maxName {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestEventBridgeInAnEnvelope: a rule whose target is a topic that the queue subscribes
// to is read as the rule's own message.
func TestEventBridgeInAnEnvelope(t *testing.T) {
	files, err := filepath.Glob("testdata/eventbridge-*.json")
	if err != nil || len(files) < 9 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		inner := fixture(t, filepath.Base(name))
		outer, err := json.Marshal(map[string]string{"Type": "Notification",
			"TopicArn": "arn:aws:sns:us-west-2:123456789012:t", "Message": string(inner)})
		if err != nil {
			t.Fatal(err)
		}
		want, errWant := Parse(inner)
		got, err := Parse(outer)
		if got != want || err != nil || errWant != nil {
			t.Errorf("%s:\n got %+v, %v\nwant %+v, %v", name, got, err, want, errWant)
		}
	}
}

func TestMalformed(t *testing.T) {
	for name, text := range malformed() {
		if got, err := Parse([]byte(text)); !errors.Is(err, ErrMalformed) || got != (Message{}) ||
			len(err.Error()) > 500 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// FuzzEnvelope: whatever a queue holds is read or refused, and an instance is
// named only by a message that says what became of it.
func FuzzEnvelope(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		f.Add(fixture(f, filepath.Base(name)))
	}
	for _, set := range []map[string]string{malformed(), strangers()} {
		for _, text := range set {
			if len(text) < 1<<10 {
				f.Add([]byte(text))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		switch {
		case err != nil:
			if m != (Message{}) || !errors.Is(err, ErrMalformed) {
				t.Errorf("%+v beside %v", m, err)
			}
		case m.Kind == Nothing:
			if m.InstanceID != "" || m.Hook != "" {
				t.Errorf("%+v", m)
			}
		case m.Kind != Launched && m.Kind != Ended && m.Kind != Parked && m.Kind != Warned:
			t.Errorf("kind %q", m.Kind)
		case !instanceID.MatchString(m.InstanceID) || (m.Group == "") != (m.Kind == Warned) ||
			!strings.Contains(string(text), m.InstanceID[3:]) && !strings.Contains(string(text), `\`):
			t.Errorf("%+v", m)
		}
	})
}

// TestG6AnyOrderOfMessages: every order of a set of messages, each of them once
// or twice, leaves the same rows.
func TestG6AnyOrderOfMessages(t *testing.T) {
	for name, set := range map[string][]string{
		"a life":            {"sns-launch.json", "sns-terminate.json", "sns-test.json"},
		"a life with hooks": {"sns-hook-launching.json", "sns-hook-terminating.json"},
		"through a warm pool": {"eventbridge-hook-warm-pool.json", "eventbridge-into-pool.json",
			"eventbridge-hook-from-pool.json"},
		"out of a warm pool": {"eventbridge-hook-from-pool.json", "eventbridge-hook-into-pool.json",
			"eventbridge-pool-terminate.json"},
		"two instances": {"sns-launch.json", "raw-hook-terminating.json", "sns-terminate.json"},
	} {
		var want string
		orders := 0
		permute(append(set, set...), func(order []string) {
			rows := fleettest.Model{}
			for _, file := range order {
				m, err := Parse(fixture(t, file))
				if err != nil {
					t.Fatal(err)
				}
				if c := m.change(); c != nil {
					rows.Apply(c)
				}
			}
			got := fmt.Sprint(rows["i-0598c7d356eba48d7"], rows["i-05629ab7d9287e205"], rows["i-59824f1c"],
				rows["i-1234567890abcdef0"])
			if orders++; want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%s, %v:\n got %s\nwant %s", name, order, got, want)
			}
		})
		if orders < 24 {
			t.Errorf("%s: %d orders were tried", name, orders)
		}
	}
}

// permute calls f with every order of list.
func permute(list []string, f func([]string)) {
	var walk func(k int)
	walk = func(k int) {
		if k == len(list) {
			f(list)
			return
		}
		for i := k; i < len(list); i++ {
			list[k], list[i] = list[i], list[k]
			walk(k + 1)
			list[k], list[i] = list[i], list[k]
		}
	}
	walk(0)
}

// A launch with its hook is the launch; a termination into the pool is none.
func TestChange(t *testing.T) {
	for file, want := range map[string]fleet.Change{
		"sns-launch.json": fleet.Add{InstanceID: "i-0598c7d356eba48d7", Group: "web"},
		"sns-hook-launching.json": fleet.Add{InstanceID: "i-05629ab7d9287e205", Group: "web",
			HookName: "phoenix-launching"},
		"sns-hook-terminating.json": fleet.Retire{InstanceID: "i-05629ab7d9287e205", Group: "web",
			HookName: "phoenix-terminating"},
		"eventbridge-pool-terminate.json": fleet.Retire{InstanceID: "i-1234567890abcdef0", Group: "web"},
		"eventbridge-into-pool.json":      nil,
		"sns-test.json":                   nil,
	} {
		m, err := Parse(fixture(t, file))
		if got := m.change(); err != nil || got != want {
			t.Errorf("%s: %#v, %v", file, got, err)
		}
	}
}
