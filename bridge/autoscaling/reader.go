package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
	"phoenix/bridge/retry"
)

// SQS is as much of SQS's API as is used here.
type SQS interface {
	GetQueueUrl(context.Context, *sqs.GetQueueUrlInput, ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error)
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput,
		...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput,
		...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
}

const (
	// pollFor is the longest long poll that SQS offers: an idle queue costs three
	// requests a minute.
	pollFor = 20 * time.Second
	// atOnce is the most messages that SQS hands out at a time.
	atOnce = 10
	// visible: after so long a message that we did not delete is received again, by
	// any master. Longer than a write takes, short enough for one that a killed
	// master had received.
	visible = time.Minute
	// extendEvery: two failed extensions still leave time for a third.
	extendEvery = visible / 3
	// emptyFor: an endpoint that does not hold the poll is not asked more often.
	emptyFor = time.Second
)

// Stats counts messages since the start.
type Stats struct {
	Received  int64 `json:"received"`
	Applied   int64 `json:"ours"`      // to the fleet
	Ignored   int64 `json:"not_ours"`  // without effect
	Refuted   int64 `json:"refuted"`   // terminations of instances that live, as EC2 says
	Malformed int64 `json:"malformed"` // left for the dead-letter queue
	Transient int64 `json:"transient"` // left, to come again
	Deleted   int64 `json:"deleted"`
}

// Reader reads any number of queues into the fleet.
type Reader struct {
	cfg   Config
	store fleet.Store
	sqs   SQS
	ec2   EC2
	hooks *Hooks
	log   *slog.Logger

	received, applied, ignored, refuted, malformed, transient, deleted atomic.Int64

	terminations terminationLimit
	ledger       ledger
	away         patience      // with AWS's answers
	liveness     livenessWatch // of masters

	drained  chan struct{}
	toDrain  sync.WaitGroup
	complain limiter // of what nobody can read
	unread   limiter // of rows that cannot be read
	holds    limiter // of terminations that wait
	refutes  limiter // of those that EC2 refutes, once there are many
}

// NewReader makes a Reader; it does nothing until Run is called.
func NewReader(cfg Config, store fleet.Store, queues SQS, instances EC2, h *Hooks, log *slog.Logger) (*Reader, error) {
	switch {
	case len(cfg.Queues) == 0:
		return nil, errors.New("read queues: none is named")
	case store == nil || queues == nil || instances == nil || h == nil || log == nil:
		return nil, errors.New("read queues: a part is missing")
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("read queues: %w", err)
	}
	return &Reader{cfg: cfg, store: store, sqs: queues, ec2: instances, hooks: h, log: log,
		terminations: terminationLimit{store: store},
		drained:      make(chan struct{})}, nil
}

// Stats may be called by any goroutine.
func (r *Reader) Stats() Stats {
	return Stats{Received: r.received.Load(), Applied: r.applied.Load(), Ignored: r.ignored.Load(),
		Refuted:   r.refuted.Load(),
		Malformed: r.malformed.Load(), Transient: r.transient.Load(), Deleted: r.deleted.Load()}
}

// Drained is closed when each queue was found empty once. Messages take precedence
// over the conclusions of reconciling.
func (r *Reader) Drained() <-chan struct{} { return r.drained }

// Run polls until ctx ends. No error of AWS or of the store ends it.
func (r *Reader) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	r.toDrain.Add(len(r.cfg.Queues))
	for _, queue := range r.cfg.Queues {
		g.Go(func() error {
			empty := sync.OnceFunc(r.toDrain.Done)
			defer empty()
			r.poll(ctx, queue, empty)
			return nil
		})
	}
	g.Go(func() error {
		r.toDrain.Wait()
		close(r.drained)
		return nil
	})
	return g.Wait()
}

// poll reads one queue until ctx ends.
func (r *Reader) poll(ctx context.Context, queue Item, empty func()) {
	url, failures := "", 0
	for ctx.Err() == nil {
		begun := time.Now()
		messages, err := r.receive(ctx, queue, &url)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if failures++; failures == 1 {
				r.log.Error("queue is not read", "queue", queue.Name, "err", withHint(err))
			}
			retry.Sleep(ctx, backoff(failures))
			continue
		case failures > 0:
			failures = 0
			r.log.Info("queue is read again", "queue", queue.Name)
		}
		if len(messages) == 0 {
			empty()
			if time.Since(begun) < emptyFor {
				retry.Sleep(ctx, emptyFor)
			}
			continue
		}
		r.handle(ctx, queue, url, messages)
	}
}

// receive long-polls once. It looks the queue's URL up where a name was given.
func (r *Reader) receive(ctx context.Context, queue Item, url *string) ([]types.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, pollFor+callWithin)
	defer cancel()
	if *url == "" && strings.Contains(queue.Name, "://") {
		*url = queue.Name
	}
	if *url == "" {
		out, err := r.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &queue.Name})
		if err != nil {
			return nil, fmt.Errorf("find queue %s: %w", queue.Name, err)
		}
		*url = aws.ToString(out.QueueUrl)
	}
	out, err := r.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: url, MaxNumberOfMessages: atOnce,
		WaitTimeSeconds: int32(pollFor.Seconds()), VisibilityTimeout: int32(visible.Seconds()),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameApproximateReceiveCount, types.MessageSystemAttributeNameSentTimestamp},
	})
	if err != nil {
		return nil, fmt.Errorf("receive from %s: %w", queue.Name, err)
	}
	r.received.Add(int64(len(out.Messages)))
	r.observeAges(out.Messages)
	return out.Messages, nil
}

// observeAges reports how old messages are: SQS says when each was sent.
func (r *Reader) observeAges(messages []types.Message) {
	if r.cfg.Age == nil {
		return
	}
	for _, m := range messages {
		sent := m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)]
		if at, err := strconv.ParseInt(sent, 10, 64); err == nil {
			r.cfg.Age(time.Since(time.UnixMilli(at)))
		}
	}
}

// Held returns the terminations that messages reported and that wait for EC2's answer
// or an operator; and those that EC2 refuted within the last day.
func (r *Reader) Held() (held, refuted []string) {
	waiting, lives := r.ledger.lists()
	slices.Sort(lives)
	return slices.Sorted(maps.Keys(waiting)), lives
}

// Release retires the instances that wait, as an operator asked, and returns them. It
// leaves out instances that EC2 reports as running, if EC2 answers.
func (r *Reader) Release(ctx context.Context) ([]string, error) {
	held, _ := r.ledger.lists()
	ids := slices.Sorted(maps.Keys(held))
	call, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if instances, err := describe(call, r.ec2, ids); err == nil {
		ids = slices.DeleteFunc(ids, func(id string) bool { i, known := instances[id]; return known && !i.Gone() })
	}
	masters := map[string]bool{}
	for id, role := range held {
		masters[id] = role == Masters
	}
	rows, err := retire(ctx, r.store, ids, masters, false)
	r.cfg.changed(rows)
	if err != nil {
		return nil, fmt.Errorf("retire %s: %w", plural.Of(len(ids), "held instance"), err)
	}
	for _, id := range ids {
		r.ledger.clear(id)
	}
	return ids, nil
}

// limiter lets one in a while through, and counts the others.
type limiter struct {
	mu   sync.Mutex
	last time.Time
	kept int
}

// allow reports whether to speak, and how often it was kept quiet since.
func (l *limiter) allow(every time.Duration) (kept int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last.IsZero() && time.Since(l.last) < every {
		l.kept++
		return 0, false
	}
	kept, l.kept, l.last = l.kept, 0, time.Now()
	return kept, true
}
