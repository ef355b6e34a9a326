package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
	"phoenix/bridge/retry"
)

// Disposition is what is done with a message.
type Disposition string

const (
	Applied   Disposition = "applied"   // deleted, now that the row is written
	Ignored   Disposition = "ignored"   // deleted: it has no effect
	Refuted   Disposition = "refuted"   // deleted: EC2 says that the instance lives
	Malformed Disposition = "malformed" // stays, for the dead-letter queue; counted
	Transient Disposition = "transient" // stays, to come again
)

const (
	// holdFor is how long a batch is kept while the store does not answer. After
	// that its messages are received again, here or by a master that reaches it.
	holdFor = 2 * time.Minute
	// fresh: a launch that is older, and left no row, may be one whose tombstone
	// is gone already. EC2 is asked.
	fresh = time.Hour
	// complainEvery: a queue full of poison is worth a line now and then.
	complainEvery = time.Minute
)

// delivery is a message in hand.
type delivery struct {
	raw         types.Message
	msg         Message
	role        Role
	row         fleet.Minion // as it is now, if the message changed it
	ends        bool         // it ends an instance whose row said otherwise
	doubt       bool         // nothing follows from it alone: AWS itself is asked
	disposition Disposition  // empty: to be applied yet
	counted     bool
}

// received says how often SQS has handed the message out; 0: it does not say.
func (l *delivery) received() int {
	n, _ := strconv.Atoi(l.raw.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
	return n
}

// open reads a message and says at once what needs no store.
func (r *Reader) open(queue Item, raw types.Message) *delivery {
	l := &delivery{raw: raw}
	m, err := Parse([]byte(aws.ToString(raw.Body)))
	if err != nil {
		l.disposition = Malformed
		if kept, ok := r.complain.allow(complainEvery); ok {
			r.log.Warn("message left for the dead-letter queue", "queue", queue.Name,
				"message", aws.ToString(raw.MessageId), "err", err, "others_since", kept)
		}
		return l
	}
	var configured bool
	l.msg = m
	l.role, configured = r.cfg.role(queue, m.Group)
	switch {
	case m.Kind == Warned: // EC2 names no group: whose it is, the store knows
	case !configured, m.Kind == Nothing, m.Kind == Parked && m.Hook == "", m.Hook != "" && !r.cfg.ourHook(m.Hook):
		l.disposition = Ignored
		r.log.Debug("message ignored", "queue", queue.Name, "group", m.Group, "event", m.About, "hook", m.Hook)
	}
	return l
}

// handle processes a batch: rows are written first, then the messages are deleted.
// Messages that need no answer of AWS come first, so that they do not wait for one.
func (r *Reader) handle(ctx context.Context, queue Item, url string, raw []types.Message) {
	deliveries := make([]*delivery, len(raw))
	for i, m := range raw {
		deliveries[i] = r.open(queue, m)
		// Of up to 1 MiB each, they would stay in memory while the batch waits.
		raw[i].Body, deliveries[i].raw.Body = nil, nil
	}
	stop := r.extend(ctx, url, raw)
	left := r.persist(ctx, url, deliveries, r.apply)
	var doubtful []*delivery
	for _, l := range deliveries {
		if l.disposition == "" {
			doubtful = append(doubtful, l)
		}
	}
	if len(doubtful) > 0 {
		left = append(left, r.persist(ctx, url, doubtful, r.applyConfirmed)...)
	}
	stop()
	// Receive no more messages until the store answers: other masters may reach it.
	for failures := 1; len(left) > 0 && ctx.Err() == nil; failures++ {
		_, err := r.store.Minions(ctx, left)
		if _, err = fleet.WithoutBadRows(err); err == nil {
			return
		}
		retry.Sleep(ctx, backoff(failures))
	}
}

// persist applies deliveries until none waits for the store, for holdFor at most. It
// returns the instances of those that still wait. Messages that are done are deleted at
// once.
func (r *Reader) persist(ctx context.Context, url string, deliveries []*delivery,
	apply func(context.Context, []*delivery) error) (left []string) {
	defer func() { r.finish(ctx, url, deliveries) }()
	held, cancel := context.WithTimeout(ctx, holdFor)
	defer cancel()
	for failures := 1; ; failures++ {
		err := apply(held, deliveries)
		if err == nil {
			if failures > 1 {
				r.log.Info("store is written again")
			}
			return nil
		}
		r.finish(ctx, url, deliveries)
		if failures == 1 && ctx.Err() == nil {
			r.log.Error("messages wait for the store", "err", err)
		}
		if !retry.Sleep(held, backoff(failures)) {
			break
		}
	}
	for _, l := range deliveries {
		if l.disposition == "" {
			l.disposition = Transient
			left = append(left, l.msg.InstanceID)
		}
	}
	return left
}

// finish counts and deletes what has a disposition.
func (r *Reader) finish(ctx context.Context, url string, deliveries []*delivery) {
	var done []types.Message
	var changed []fleet.Minion
	ended := 0
	for _, l := range deliveries {
		if l.disposition == "" || l.counted {
			continue
		}
		l.counted = true
		switch l.disposition {
		case Applied:
			r.applied.Add(1)
			done = append(done, l.raw)
			if l.ends {
				ended++
			}
			if l.row.InstanceID != "" {
				changed = append(changed, l.row)
			}
			r.log.Info("message applied", "instance", l.msg.InstanceID, "group", l.msg.Group, "event", l.msg.About,
				"role", l.role)
		case Ignored:
			r.ignored.Add(1)
			done = append(done, l.raw)
		case Refuted:
			r.refuted.Add(1)
			done = append(done, l.raw)
		case Malformed:
			r.malformed.Add(1)
		default:
			r.transient.Add(1)
		}
	}
	r.terminations.wrote(ended)
	r.cfg.changed(changed)
	r.delete(ctx, url, done)
}

// apply applies the messages that need no confirmation by AWS. The others are marked
// as doubtful. An error is the store's; the deliveries that it concerns still have no
// disposition.
func (r *Reader) apply(ctx context.Context, deliveries []*delivery) error {
	k, err := r.read(ctx, deliveries)
	if err != nil {
		return err
	}
	var write []*delivery
	var errs []error
	room, counted := 0, false
	for _, l := range deliveries {
		if l.disposition != "" || l.doubt || !k.readable(r, l) {
			continue
		}
		row := k.rows[l.msg.InstanceID]
		switch l.msg.Kind {
		case Parked: // AutoScaling is to be called, which may take its time
			l.doubt = true
			continue
		case Warned:
			id := l.msg.InstanceID
			if k.masters[id].Status == fleet.Launch && anotherReady(k.masters, id) &&
				!r.liveness.another(k.masters, id, time.Now()) {
				l.doubt = true // whether the other beats is to be seen
				continue
			}
			errs = append(errs, r.warned(ctx, l, k))
			continue
		case Launched:
			if age := time.Since(l.msg.At); row.Status == "" && (age > fresh || age < -fresh) {
				l.doubt = true
				continue
			}
		case Ended:
			if l.role == Masters || row.Group == "" && k.noMasters != nil { // or one that may be a master
				l.doubt = true
				continue
			}
			if l.ends = row.Status != fleet.Terminate; !l.ends {
				break // reported before
			}
			if !counted {
				room, counted = r.room(ctx), true
			}
			if room--; room < 0 {
				l.ends, l.doubt = false, true
				continue
			}
		}
		write = append(write, l)
	}
	return errors.Join(append(errs, r.write(ctx, write, nil))...)
}

// room is how many terminations are accepted without EC2's confirmation; none, if they
// cannot be counted.
func (r *Reader) room(ctx context.Context) int {
	room, err := r.terminations.room(ctx)
	if err != nil {
		r.log.Warn("terminations reported by messages wait for EC2's confirmation", "err", err)
	}
	return room
}

// write applies deliveries to the minions' rows: each its own change, or the one given.
func (r *Reader) write(ctx context.Context, deliveries []*delivery, given map[*delivery]fleet.Change) error {
	if len(deliveries) == 0 {
		return nil
	}
	changes := make([]fleet.Change, len(deliveries))
	for i, l := range deliveries {
		if changes[i] = given[l]; changes[i] == nil {
			changes[i] = l.msg.change()
		}
	}
	results, err := r.store.Apply(ctx, changes)
	if err != nil {
		return fmt.Errorf("write %s: %w", plural.Of(len(changes), "instance"), err)
	}
	var errs []error
	for i, l := range deliveries {
		err := results[i].Err
		switch l.row = results[i].Row; {
		case err == nil:
			l.disposition = Applied
			if l.msg.Kind == Ended {
				r.ledger.clear(l.msg.InstanceID)
			}
			if l.msg.Hook != "" {
				r.hooks.Tend(l.msg, l.role)
			}
		case errors.Is(err, fleet.ErrTerminated):
			l.disposition = Applied // a launch that came late: termination is final
		default:
			errs = append(errs, r.refused(l, err))
		}
	}
	return errors.Join(errs...)
}

// refused handles a delivery whose row could not be written. It returns the error if
// the store fails for all rows. If only this row failed, the delivery is received
// again and delays no other.
func (r *Reader) refused(l *delivery, err error) error {
	if errors.Is(err, fleet.ErrUnavailable) || errors.Is(err, context.Canceled) ||
		errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	l.disposition = Transient
	r.log.Error("message not applied; it will be received again", "instance", l.msg.InstanceID, "event",
		l.msg.About, "err", err)
	return nil
}
