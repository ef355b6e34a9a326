package autoscaling

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/retry"
)

// fakeAWS answers the real SDK in the place of its HTTP transport, so that time
// may be synctest's, and answers may be those that moto never gives.
type fakeAWS struct {
	mu        sync.Mutex
	messages  []*fakeMessage
	instances map[string]fakeInstance
	groups    map[string]map[string]string // by group: lifecycle state by instance
	pool      map[string]string            // lifecycle states of warm pools, which no group lists
	hooks     map[string][]fakeHook        // by group; of one that has none here, ourTestHooks
	calls     []fakeCall
	fail      func(c fakeCall) (code string) // "" lets it pass
	impatient bool                           // long polls are answered at once
	pageSize  int                            // of the answers that have pages; 0: all at once
	sent      int
}

type fakeMessage struct {
	id, body, handle  string
	visible           time.Time
	received          int
	deleted, extended bool
}

type fakeInstance struct {
	state    string
	launched time.Time
}

// fakeHook is a lifecycle hook of a group: its transition is LAUNCHING or TERMINATING.
type fakeHook struct {
	name, transition string
	timeout          time.Duration
}

// The hooks that are ours, and how long they wait.
const (
	upHook      = "phoenix-launching"
	downHook    = "phoenix-terminating"
	hookTimeout = 30 * time.Minute
	downTimeout = 10 * time.Minute
)

var (
	ourNames     = []string{upHook, downHook}
	ourTestHooks = []fakeHook{{upHook, "LAUNCHING", hookTimeout}, {downHook, "TERMINATING", downTimeout},
		{"foreign", "TERMINATING", time.Hour}}
)

// fakeCall is a request as the fake saw it.
type fakeCall struct {
	action string
	form   url.Values
	at     time.Time
	bounds bool     // the request's context had a deadline
	bodies []string // of the messages that a batch speaks of
}

func (f *fakeAWS) config() aws.Config {
	return aws.Config{Region: "us-west-2", HTTPClient: &http.Client{Transport: f},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		})}
}

func (f *fakeAWS) sqs() *sqs.Client                 { return sqs.NewFromConfig(f.config()) }
func (f *fakeAWS) ec2() *ec2.Client                 { return ec2.NewFromConfig(f.config()) }
func (f *fakeAWS) autoscaling() *autoscaling.Client { return autoscaling.NewFromConfig(f.config()) }

// set changes what the fake is, while it is asked.
func (f *fakeAWS) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// send puts messages into the queue.
func (f *fakeAWS) send(bodies ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, body := range bodies {
		f.sent++
		f.messages = append(f.messages, &fakeMessage{id: fmt.Sprintf("m%d", f.sent), body: body})
	}
}

// left returns the bodies of the messages that were not deleted.
func (f *fakeAWS) left() (bodies []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.messages {
		if !m.deleted {
			bodies = append(bodies, m.body)
		}
	}
	return bodies
}

// count says how often an action was called.
func (f *fakeAWS) count(action string) int { return len(f.of(action)) }

func (f *fakeAWS) of(action string) []fakeCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.calls), func(c fakeCall) bool { return c.action != action })
}

// RoundTrip implements http.RoundTripper.
func (f *fakeAWS) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	c := fakeCall{at: time.Now()}
	_, c.bounds = r.Context().Deadline()
	var in struct {
		WaitTimeSeconds     int
		MaxNumberOfMessages int
		VisibilityTimeout   int
		Entries             []struct {
			Id, ReceiptHandle string
			VisibilityTimeout int
		}
	}
	if _, action, json_ := strings.Cut(r.Header.Get("X-Amz-Target"), "AmazonSQS."); json_ {
		c.action = action
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
	} else {
		if c.form, err = url.ParseQuery(string(body)); err != nil {
			return nil, err
		}
		c.action = c.form.Get("Action")
	}
	f.mu.Lock()
	for _, e := range in.Entries {
		for _, m := range f.messages {
			if m.handle == e.ReceiptHandle {
				c.bodies = append(c.bodies, m.body)
			}
		}
	}
	f.calls = append(f.calls, c)
	fail := f.fail
	f.mu.Unlock()
	if fail != nil {
		if code := fail(c); code != "" {
			return f.failure(r, c, code), nil
		}
	}
	if err := r.Context().Err(); err != nil { // as a transport does
		return nil, err
	}
	switch c.action {
	case "GetQueueUrl":
		return answer(r, 200, map[string]string{"QueueUrl": "https://sqs.us-west-2.amazonaws.com/123456789012/q"})
	case "ReceiveMessage":
		return f.receive(r, in.WaitTimeSeconds, in.MaxNumberOfMessages, in.VisibilityTimeout)
	case "DeleteMessageBatch", "ChangeMessageVisibilityBatch":
		type result struct{ Id string }
		type fault struct {
			Id, Code    string
			SenderFault bool
		}
		out := struct {
			Successful []result
			Failed     []fault
		}{}
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, e := range in.Entries {
			i := slices.IndexFunc(f.messages,
				func(m *fakeMessage) bool { return m.handle == e.ReceiptHandle && !m.deleted })
			if i < 0 {
				out.Failed = append(out.Failed, fault{e.Id, "ReceiptHandleIsInvalid", true})
				continue
			}
			if m := f.messages[i]; c.action == "DeleteMessageBatch" {
				m.deleted = true
			} else {
				m.visible, m.extended = c.at.Add(time.Duration(e.VisibilityTimeout)*time.Second), true
			}
			out.Successful = append(out.Successful, result{e.Id})
		}
		return answer(r, 200, out)
	case "DescribeInstances":
		return f.describeInstances(r, c)
	case "DescribeAutoScalingGroups":
		return f.describeGroups(r, c)
	case "DescribeAutoScalingInstances":
		return f.describeMembers(r, c)
	case "DescribeLifecycleHooks":
		return f.describeHooks(r, c)
	case "CompleteLifecycleAction", "RecordLifecycleActionHeartbeat":
		return answer(r, 200, fmt.Sprintf(`<%[1]sResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><%[1]sResult/></%[1]sResponse>`, c.action))
	}
	return nil, fmt.Errorf("fake AWS has no %q", c.action)
}

// receive hands out what is visible, and polls for it as SQS does.
func (f *fakeAWS) receive(r *http.Request, wait, most, visible int) (*http.Response, error) {
	type message struct {
		MessageId, Body, MD5OfBody, ReceiptHandle string
		Attributes                                map[string]string
	}
	deadline := time.Now().Add(time.Duration(wait) * time.Second)
	for {
		out := struct{ Messages []message }{}
		f.mu.Lock()
		now := time.Now()
		for _, m := range f.messages {
			if len(out.Messages) == most || m.deleted || now.Before(m.visible) {
				continue
			}
			m.received++
			m.visible = now.Add(time.Duration(visible) * time.Second)
			m.handle = fmt.Sprintf("%s/%d", m.id, m.received)
			sum := md5.Sum([]byte(m.body))
			out.Messages = append(out.Messages, message{m.id, m.body, hex.EncodeToString(sum[:]), m.handle,
				map[string]string{"ApproximateReceiveCount": fmt.Sprint(m.received)}})
		}
		impatient := f.impatient
		f.mu.Unlock()
		if len(out.Messages) > 0 || !now.Before(deadline) || impatient {
			return answer(r, 200, out)
		}
		if !retry.Sleep(r.Context(), 100*time.Millisecond) {
			return nil, r.Context().Err()
		}
	}
}

func (f *fakeAWS) describeInstances(r *http.Request, c fakeCall) (*http.Response, error) {
	var items []string
	for i := 1; ; i++ {
		id := c.form.Get(fmt.Sprintf("Filter.1.Value.%d", i))
		if id == "" {
			break
		}
		f.mu.Lock()
		if in, known := f.instances[id]; known {
			items = append(items, fmt.Sprintf(`<item><instancesSet><item><instanceId>%s</instanceId><instanceState><name>%s</name></instanceState>`+
				`<launchTime>%s</launchTime></item></instancesSet></item>`, id, in.state,
				in.launched.UTC().Format(time.RFC3339)))
		}
		f.mu.Unlock()
	}
	page, next := f.page(items, c.form.Get("NextToken"))
	return answer(r, 200, `<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet>`+strings.Join(page, "")+
		`</reservationSet><nextToken>`+next+`</nextToken></DescribeInstancesResponse>`)
}

func (f *fakeAWS) describeGroups(r *http.Request, c fakeCall) (*http.Response, error) {
	var items []string
	f.mu.Lock()
	for i := 1; ; i++ {
		name := c.form.Get(fmt.Sprintf("AutoScalingGroupNames.member.%d", i))
		if name == "" {
			break
		}
		members, known := f.groups[name]
		if !known {
			continue
		}
		text := ""
		for id, state := range members {
			text += fmt.Sprintf(`<member><InstanceId>%s</InstanceId><LifecycleState>%s</LifecycleState></member>`, id,
				state)
		}
		items = append(items, fmt.Sprintf(`<member><AutoScalingGroupName>%s</AutoScalingGroupName><Instances>%s</Instances></member>`, name, text))
	}
	f.mu.Unlock()
	page, next := f.page(items, c.form.Get("NextToken"))
	return answer(r, 200, `<DescribeAutoScalingGroupsResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><DescribeAutoScalingGroupsResult>`+
		`<AutoScalingGroups>`+strings.Join(page, "")+`</AutoScalingGroups><NextToken>`+next+
		`</NextToken></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>`)
}

// describeMembers returns the lifecycle states of instances, those of warm pools too.
func (f *fakeAWS) describeMembers(r *http.Request, c fakeCall) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := ""
	tell := func(id, group, state string) {
		text += fmt.Sprintf(`<member><InstanceId>%s</InstanceId><AutoScalingGroupName>%s</AutoScalingGroupName><LifecycleState>%s</LifecycleState></member>`, id, group, state)
	}
	for i := 1; ; i++ {
		id := c.form.Get(fmt.Sprintf("InstanceIds.member.%d", i))
		if id == "" {
			break
		}
		for group, members := range f.groups {
			if state := members[id]; state != "" {
				tell(id, group, state)
			}
		}
		if state := f.pool[id]; state != "" {
			tell(id, "web", state)
		}
	}
	return answer(r, 200, `<DescribeAutoScalingInstancesResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><DescribeAutoScalingInstancesResult>`+
		`<AutoScalingInstances>`+text+
		`</AutoScalingInstances></DescribeAutoScalingInstancesResult></DescribeAutoScalingInstancesResponse>`)
}

func (f *fakeAWS) describeHooks(r *http.Request, c fakeCall) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	group := c.form.Get("AutoScalingGroupName")
	hooks, set := f.hooks[group]
	if !set {
		hooks = ourTestHooks
	}
	text := ""
	for _, h := range hooks {
		text += fmt.Sprintf(`<member><LifecycleHookName>%s</LifecycleHookName><AutoScalingGroupName>%s</AutoScalingGroupName>`+
			`<LifecycleTransition>autoscaling:EC2_INSTANCE_%s</LifecycleTransition><HeartbeatTimeout>%d</HeartbeatTimeout></member>`, h.name, group, h.transition, int(h.timeout.Seconds()))
	}
	return answer(r, 200, `<DescribeLifecycleHooksResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><DescribeLifecycleHooksResult>`+
		`<LifecycleHooks>`+text+`</LifecycleHooks></DescribeLifecycleHooksResult></DescribeLifecycleHooksResponse>`)
}

// page returns the part of items that a token asks for. An empty page with a next
// token comes first, as AWS is free to answer.
func (f *fakeAWS) page(items []string, token string) (page []string, next string) {
	if f.pageSize == 0 {
		return items, ""
	}
	if token == "" {
		return nil, "0"
	}
	from := 0
	_, _ = fmt.Sscan(token, &from)
	to := min(from+f.pageSize, len(items))
	if to < len(items) {
		next = fmt.Sprint(to)
	}
	return items[from:to], next
}

func (f *fakeAWS) failure(r *http.Request, c fakeCall, code string) *http.Response {
	status := 400
	if code == "InternalFailure" {
		status = 500
	}
	var response *http.Response
	switch {
	case c.form == nil:
		response, _ = answer(r, status,
			map[string]string{"__type": "com.amazonaws.sqs#" + code, "message": "as the test wants it"})
	case c.action == "DescribeInstances":
		response, _ = answer(r, status,
			`<Response><Errors><Error><Code>`+code+
				`</Code><Message>as the test wants it</Message></Error></Errors><RequestID>r</RequestID></Response>`)
	default:
		response, _ = answer(r, status,
			`<ErrorResponse><Error><Type>Sender</Type><Code>`+code+
				`</Code><Message>as the test wants it</Message></Error><RequestId>r</RequestId></ErrorResponse>`)
	}
	return response
}

// answer makes a response: XML of a string, JSON of anything else.
func answer(r *http.Request, status int, body any) (*http.Response, error) {
	text, xml := body.(string)
	raw, kind := []byte(text), "text/xml"
	if !xml {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return nil, err
		}
		kind = "application/x-amz-json-1.0"
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status),
		Header: http.Header{"Content-Type": {kind}},
		Body:   io.NopCloser(bytes.NewReader(raw)), ContentLength: int64(len(raw)), Request: r, Proto: "HTTP/1.1",
		ProtoMajor: 1, ProtoMinor: 1}, nil
}

// newStore opens a store that ends with the test.
func newStore(t testing.TB) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// lines is a log that a test can look into.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// instance returns an instance id.
func instance(n int) string { return fmt.Sprintf("i-%017x", n) }

// message is a notice as AutoScaling sends it by SNS's raw delivery.
func message(event, id, group string, when time.Time) string {
	field := "Event"
	hook := ""
	if name := map[string]string{"LAUNCHING": upHook, "TERMINATING": downHook}[event]; name != "" {
		field, hook = "LifecycleTransition", `"LifecycleHookName":"`+name+`",`
	}
	return fmt.Sprintf(`{"Service":"AWS Auto Scaling",%s"%s":"autoscaling:EC2_INSTANCE_%s","EC2InstanceId":"%s","AutoScalingGroupName":"%s","Time":"%s"}`,
		hook, field, event, id, group, when.UTC().Format("2006-01-02T15:04:05.000Z"))
}

func instancesOf(rows []fleet.Minion) (ids []string) {
	for _, row := range rows {
		ids = append(ids, row.InstanceID)
	}
	return ids
}

func statusOf(t testing.TB, s fleet.Store, id string) fleet.Status {
	t.Helper()
	rows, err := s.Minions(t.Context(), []string{id})
	if err != nil {
		t.Fatal(err)
	}
	return rows[id].Status
}
