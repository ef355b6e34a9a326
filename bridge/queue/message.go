package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"phoenix/bridge/fleet"
)

// Kind is what a message says of its instance.
type Kind string

const (
	// Nothing: well-formed, and nothing follows from it.
	Nothing Kind = "nothing"
	// Launched: the instance is there, or about to be.
	Launched Kind = "launched"
	// Ended: the instance is terminated, or about to be.
	Ended Kind = "ended"
	// Parked: the instance goes from its group to the warm pool. It is no
	// termination, but a hook may wait for us to let it go.
	Parked Kind = "parked"
)

// Message is what Phoenix takes from a message of AutoScaling. Only Nothing
// comes without instance and group.
type Message struct {
	Kind       Kind
	InstanceID string
	Group      string
	Hook       string    // name of the lifecycle hook that waits; empty: none
	At         time.Time // as AutoScaling wrote it; zero: it did not say
	About      string    // the event's own name, for people
}

// ErrMalformed: the message is none that Phoenix knows how to read. It stays in
// the queue, for the queue's dead-letter queue and for people.
var ErrMalformed = errors.New("malformed message")

// maxBody is the largest message that SQS takes (1 MiB since August 2025).
const maxBody = 1 << 20

// instanceID is every id that EC2 gave since 2006.
var instanceID = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)

// body is the union of what the three ways of delivery have on top.
type body struct {
	// SNS's envelope.
	Type    string
	Message *string
	// EventBridge.
	Source     string          `json:"source"`
	DetailType string          `json:"detail-type"`
	Detail     json.RawMessage `json:"detail"`
	At         string          `json:"time"`

	notice
}

// notice is what AutoScaling says, in SNS's message, bare, or in EventBridge's detail.
type notice struct {
	Event                string
	LifecycleTransition  string
	LifecycleHookName    string
	EC2InstanceID        string `json:"EC2InstanceId"`
	AutoScalingGroupName string
	Time                 string
	Origin, Destination  string // EC2, AutoScalingGroup or WarmPool
}

// Parse reads the body of one message of a queue: SNS's envelope, SNS's raw
// delivery (or a hook that sends to SQS itself), or EventBridge. An error is
// ErrMalformed, and comes with the zero Message.
func Parse(text []byte) (Message, error) {
	m, err := parse(text)
	if err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return m, nil
}

func parse(text []byte) (Message, error) {
	if len(text) > maxBody {
		return Message{}, fmt.Errorf("%d bytes are too many", len(text))
	}
	var b body
	if err := json.Unmarshal(text, &b); err != nil {
		return Message{}, err
	}
	switch {
	case b.Source != "" || b.DetailType != "":
		return b.eventBridge()
	case b.Message != nil:
		if b.Type != "" && b.Type != "Notification" {
			return Message{}, fmt.Errorf("SNS says %q: the subscription must be confirmed by hand", b.Type)
		}
		// A fresh struct: nothing of the envelope may pass for the notice.
		var inner notice
		if err := json.Unmarshal([]byte(*b.Message), &inner); err != nil {
			return Message{}, fmt.Errorf("message within SNS's envelope: %w", err)
		}
		return inner.read(inner.name())
	}
	return b.read(b.name())
}

func (b body) eventBridge() (Message, error) {
	// A rule may match all that AutoScaling says: instance refreshes, API calls
	// that CloudTrail saw. SNS sends only what was asked for.
	if _, _, known := meaning(b.DetailType); !known || b.Source != "aws.autoscaling" {
		return Message{Kind: Nothing, About: b.DetailType}, nil
	}
	var n notice
	if err := json.Unmarshal(b.Detail, &n); err != nil {
		return Message{}, fmt.Errorf("detail of EventBridge: %w", err)
	}
	if n.Time == "" {
		n.Time = b.At
	}
	return n.read(b.DetailType)
}

// name is what a notice that came by SNS says that it is.
func (n notice) name() string {
	if n.LifecycleTransition != "" {
		return n.LifecycleTransition
	}
	return n.Event
}

// meaning knows the events by the names that they have in SNS and in EventBridge.
func meaning(name string) (kind Kind, hook, known bool) {
	switch name {
	case "autoscaling:EC2_INSTANCE_LAUNCH", "EC2 Instance Launch Successful":
		return Launched, false, true
	case "autoscaling:EC2_INSTANCE_TERMINATE", "EC2 Instance Terminate Successful":
		return Ended, false, true
	// While a launch hook waits, the launch itself is not told: AutoScaling says
	// EC2_INSTANCE_LAUNCH only after the hook has ended.
	case "autoscaling:EC2_INSTANCE_LAUNCHING", "EC2 Instance-launch Lifecycle Action":
		return Launched, true, true
	case "autoscaling:EC2_INSTANCE_TERMINATING", "EC2 Instance-terminate Lifecycle Action":
		return Ended, true, true
	case "autoscaling:EC2_INSTANCE_LAUNCH_ERROR", "EC2 Instance Launch Unsuccessful",
		"autoscaling:EC2_INSTANCE_TERMINATE_ERROR", "EC2 Instance Terminate Unsuccessful",
		"autoscaling:TEST_NOTIFICATION":
		return Nothing, false, true
	}
	return "", false, false
}

// transits says whether the transition that a hook names is of that kind.
func (n notice) transits(kind Kind) bool {
	of, hook, _ := meaning(n.LifecycleTransition)
	return hook && of == kind
}

func (n notice) read(name string) (Message, error) {
	kind, hook, known := meaning(name)
	switch {
	case name == "":
		return Message{}, errors.New("no event is named")
	case !known:
		return Message{}, fmt.Errorf("event %.100q is not known", name)
	case kind == Nothing:
		return Message{Kind: Nothing, Group: n.AutoScalingGroupName, About: name}, nil
	case !instanceID.MatchString(n.EC2InstanceID):
		return Message{}, fmt.Errorf("%s: instance id %.100q", name, n.EC2InstanceID)
	case n.AutoScalingGroupName == "":
		return Message{}, fmt.Errorf("%s: no group", name)
	case hook && !n.transits(kind):
		return Message{}, fmt.Errorf("%s: transition %.100q", name, n.LifecycleTransition)
	case hook && n.LifecycleHookName == "":
		return Message{}, fmt.Errorf("%s: no hook", name)
	}
	m := Message{Kind: kind, InstanceID: n.EC2InstanceID, Group: n.AutoScalingGroupName, About: name}
	if hook {
		m.Hook = n.LifecycleHookName
	}
	// Into the warm pool goes what AutoScaling scales in and will use again.
	if kind == Ended && n.Destination == "WarmPool" {
		m.Kind = Parked
	}
	if n.Time != "" {
		at, err := time.Parse(time.RFC3339, n.Time)
		if err != nil {
			return Message{}, fmt.Errorf("%s: time: %w", name, err)
		}
		m.At = at
	}
	return m, nil
}

// change is what the message does to its instance's row; nil: nothing.
func (m Message) change() fleet.Change {
	switch m.Kind {
	case Launched:
		return fleet.Add{InstanceID: m.InstanceID, Group: m.Group, HookName: m.Hook}
	case Ended:
		return fleet.Retire{InstanceID: m.InstanceID, Group: m.Group, HookName: m.Hook}
	}
	return nil
}
