package autoscaling

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
	// Nothing: readable, and nothing follows from it.
	Nothing Kind = "nothing"
	// Launched: the instance is there, or about to be.
	Launched Kind = "launched"
	// Ended: the instance is terminated, or about to be.
	Ended Kind = "ended"
	// Parked: the instance goes from its group to the warm pool. It is no
	// termination, but a hook may wait for us to let it go.
	Parked Kind = "parked"
	// Warned: EC2 may take the Spot Instance back, in two minutes or later.
	Warned Kind = "warned"
)

// Message is what Phoenix takes from a message. Nothing comes without instance and
// group, Warned without group: EC2 does not name it.
type Message struct {
	Kind       Kind
	InstanceID string
	Group      string
	Hook       string    // name of the lifecycle hook that waits; empty: none
	At         time.Time // as AWS wrote it; zero: it did not say
	About      string    // the event's own name, for people
}

// ErrMalformed: the message is none that Phoenix knows how to read. It stays in
// the queue, for the queue's dead-letter queue and for people.
var ErrMalformed = errors.New("malformed message")

// maxBody is the largest message that SQS takes (1 MiB since August 2025).
const maxBody = 1 << 20

var instanceID = regexp.MustCompile(fleet.InstanceIDPattern)

// maxName bounds the names of groups and of lifecycle hooks, as AutoScaling does.
const maxName = 255

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
// delivery (or a hook that sends to SQS itself), or EventBridge, within SNS's
// envelope too. Valid JSON that is none of the events that Phoenix knows is somebody
// else's, and Nothing. An error is ErrMalformed, and comes with the zero Message.
func Parse(text []byte) (Message, error) {
	m, err := parse(text, true)
	if err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return m, nil
}

// parse reads a body; outer is false for what came out of an envelope.
func parse(text []byte, outer bool) (Message, error) {
	if len(text) > maxBody {
		return Message{}, fmt.Errorf("%d bytes are too many", len(text))
	}
	var b body
	if err := decode(text, &b); err != nil {
		return Message{}, err
	}
	switch {
	case b.Source != "" || b.DetailType != "":
		return b.eventBridge()
	case b.Message != nil && outer:
		if b.Type != "" && b.Type != "Notification" {
			return Message{}, fmt.Errorf("SNS says %.100q: the subscription must be confirmed by hand", b.Type)
		}
		// Parsed anew: nothing of the envelope may pass for the notice.
		m, err := parse([]byte(*b.Message), false)
		if err != nil {
			return Message{}, fmt.Errorf("message within SNS's envelope: %w", err)
		}
		return m, nil
	}
	return b.read(b.name())
}

// decode reads JSON. A field of another type than AWS gives it stays empty, as if
// it were not there: the event's name decides whether that matters.
func decode(text []byte, into any) error {
	var odd *json.UnmarshalTypeError
	if err := json.Unmarshal(text, into); err != nil && !errors.As(err, &odd) {
		return err
	}
	return nil
}

func (b body) eventBridge() (Message, error) {
	if b.Source == "aws.ec2" {
		return b.warning()
	}
	// A rule may match all that AutoScaling says: instance refreshes, API calls
	// that CloudTrail saw. SNS sends only what was asked for.
	if _, _, known := meaning(b.DetailType); !known || b.Source != "aws.autoscaling" {
		return nothing(b.DetailType), nil
	}
	var n notice
	if err := decode(b.Detail, &n); err != nil {
		return Message{}, fmt.Errorf("detail of EventBridge: %w", err)
	}
	if n.Time == "" {
		n.Time = b.At
	}
	return n.read(b.DetailType)
}

// warning reads what EC2 says of Spot Instances, two minutes before it takes one
// back, or when that becomes likely.
func (b body) warning() (Message, error) {
	if b.DetailType != "EC2 Spot Instance Interruption Warning" &&
		b.DetailType != "EC2 Instance Rebalance Recommendation" {
		return nothing(b.DetailType), nil
	}
	var detail struct {
		InstanceID string `json:"instance-id"`
	}
	if err := decode(b.Detail, &detail); err != nil {
		return Message{}, fmt.Errorf("detail of EventBridge: %w", err)
	}
	if !instanceID.MatchString(detail.InstanceID) {
		return Message{}, fmt.Errorf("%s: instance id %.100q", b.DetailType, detail.InstanceID)
	}
	m := Message{Kind: Warned, InstanceID: detail.InstanceID, About: b.DetailType}
	at, err := time.Parse(time.RFC3339, b.At)
	if err != nil && b.At != "" {
		return Message{}, fmt.Errorf("%s: time: %.100q", b.DetailType, b.At)
	}
	m.At = at
	return m, nil
}

// nothing is a message that nothing follows from.
func nothing(about string) Message {
	return Message{Kind: Nothing, About: about[:min(len(about), maxName)]}
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
	// While a launch hook waits, the launch itself is not reported: AutoScaling sends
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

// transits reports whether the transition that a hook names is of that kind.
func (n notice) transits(kind Kind) bool {
	of, hook, _ := meaning(n.LifecycleTransition)
	return hook && of == kind
}

func (n notice) read(name string) (Message, error) {
	kind, hook, known := meaning(name)
	switch {
	case !known || kind == Nothing:
		return nothing(name), nil
	case !instanceID.MatchString(n.EC2InstanceID):
		return Message{}, fmt.Errorf("%s: instance id %.100q", name, n.EC2InstanceID)
	case n.AutoScalingGroupName == "" || len(n.AutoScalingGroupName) > maxName:
		return Message{}, fmt.Errorf("%s: group %.100q", name, n.AutoScalingGroupName)
	case hook && !n.transits(kind):
		return Message{}, fmt.Errorf("%s: transition %.100q", name, n.LifecycleTransition)
	case hook && (n.LifecycleHookName == "" || len(n.LifecycleHookName) > maxName):
		return Message{}, fmt.Errorf("%s: hook %.100q", name, n.LifecycleHookName)
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
			return Message{}, fmt.Errorf("%s: time: %.100q", name, n.Time)
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
