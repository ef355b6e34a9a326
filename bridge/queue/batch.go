package queue

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"phoenix/bridge/fleet"
)

// Verdict is what is done with a message.
type Verdict string

const (
	Ours      Verdict = "ours"      // deleted, now that the row is written
	NotOurs   Verdict = "not ours"  // deleted: nothing follows from it
	Malformed Verdict = "malformed" // stays, for the dead-letter queue; counted
	Transient Verdict = "transient" // stays, to come again
)

const (
	// holdFor: for so long a batch is held while the store does not answer. Then
	// its messages are left to come again, here or at a master that reaches it.
	holdFor = 2 * time.Minute
	// fresh: a launch that is older, and left no row, may be one whose tombstone
	// is gone already. EC2 is asked.
	fresh = time.Hour
	// complainEvery: a queue full of poison is worth a line now and then.
	complainEvery = time.Minute
)

// hooks are told of the instances that a lifecycle hook holds.
type hooks interface {
	Tend(Message)                                 // one that waits for a row to change
	Proceed(ctx context.Context, m Message) error // one that waits for nothing of ours
}

// letter is a message in hand.
type letter struct {
	raw     types.Message
	msg     Message
	role    Role
	row     fleet.Minion // as it is now
	verdict Verdict      // empty: to be applied yet
}

// open reads a message and says at once what needs no store.
func (r *Reader) open(queue Item, raw types.Message) *letter {
	l := &letter{raw: raw}
	m, err := Parse([]byte(aws.ToString(raw.Body)))
	if err != nil {
		l.verdict = Malformed
		if kept, ok := r.complain.allow(complainEvery); ok {
			r.log.Warn("message left for the dead-letter queue", "queue", queue.Name,
				"message", aws.ToString(raw.MessageId), "err", err, "others_since", kept)
		}
		return l
	}
	var ours bool
	l.msg = m
	l.role, ours = r.cfg.role(queue, m.Group)
	if !ours || m.Kind == Nothing || m.Kind == Parked && m.Hook == "" {
		l.verdict = NotOurs
		r.log.Debug("message passed over", "queue", queue.Name, "group", m.Group, "event", m.About)
	}
	return l
}

// handle carries a batch out: rows first, then the messages are deleted.
func (r *Reader) handle(ctx context.Context, queue Item, url string, raw []types.Message) {
	letters := make([]*letter, len(raw))
	for i, m := range raw {
		letters[i] = r.open(queue, m)
	}
	stop := r.extend(ctx, url, raw)
	left := r.settle(ctx, letters)
	stop()
	var done []types.Message
	var changed []fleet.Minion
	for _, l := range letters {
		switch l.verdict {
		case Ours:
			r.ours.Add(1)
			done = append(done, l.raw)
			if l.msg.Kind != Parked {
				changed = append(changed, l.row)
				r.log.Info("message applied", "instance", l.msg.InstanceID, "group", l.msg.Group, "event", l.msg.About, "role", l.role)
			}
		case NotOurs:
			r.notOurs.Add(1)
			done = append(done, l.raw)
		case Malformed:
			r.malformed.Add(1)
		default:
			r.transient.Add(1)
		}
	}
	r.cfg.told(changed)
	r.delete(ctx, url, done)
	// Take no more from masters that can write.
	for failures := 1; len(left) > 0 && ctx.Err() == nil; failures++ {
		_, err := r.store.Minions(ctx, left)
		if _, err = fleet.WithoutBadRows(err); err == nil {
			return
		}
		sleep(ctx, backoff(failures))
	}
}

// settle applies letters until each has a verdict. While the store does not
// answer it tries again; after holdFor it gives the letters up, and returns the
// instances that they speak of.
func (r *Reader) settle(ctx context.Context, letters []*letter) (left []string) {
	held, cancel := context.WithTimeout(ctx, holdFor)
	defer cancel()
	for failures := 1; ; failures++ {
		err := r.apply(held, letters)
		if err == nil {
			if failures > 1 {
				r.log.Info("store is written again")
			}
			return nil
		}
		if failures == 1 && ctx.Err() == nil {
			r.log.Error("messages wait for the store", "err", err)
		}
		if !sleep(held, backoff(failures)) {
			break
		}
	}
	for _, l := range letters {
		if l.verdict == "" {
			l.verdict = Transient
			left = append(left, l.msg.InstanceID)
		}
	}
	return left
}

// apply writes what the letters without a verdict say. An error is the store's;
// the letters that it concerns still have no verdict.
func (r *Reader) apply(ctx context.Context, letters []*letter) error {
	var changes []fleet.Change
	var of []*letter
	var errs []error
	old, err := r.askAfterOld(ctx, letters)
	if err != nil {
		return err
	}
	for _, l := range letters {
		if l.verdict != "" {
			continue
		}
		c := l.msg.change()
		if add, ok := old[l]; ok {
			c = add
		}
		if c == nil { // Parked
			l.verdict = Ours
			if err := r.hooks.Proceed(ctx, l.msg); err != nil {
				l.verdict = Transient
				r.log.Warn("lifecycle hook not ended", "instance", l.msg.InstanceID, "hook", l.msg.Hook, "err", withHint(err))
			}
			continue
		}
		// A launch does not make a master's row: its own bridge does, with the address.
		if l.role == Masters && l.msg.Kind == Ended {
			if err := r.store.RetireMaster(ctx, l.msg.InstanceID); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		changes, of = append(changes, c), append(of, l)
	}
	if len(changes) == 0 {
		return errors.Join(errs...)
	}
	results, err := r.store.Apply(ctx, changes)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for i, l := range of {
		l.row = results[i].Row
		switch err := results[i].Err; {
		case err == nil:
			l.verdict = Ours
			if l.msg.Hook != "" {
				r.hooks.Tend(l.msg)
			}
		case errors.Is(err, fleet.ErrTerminated):
			l.verdict = Ours // a launch that came late: termination is final
		case errors.Is(err, fleet.ErrCorrupt):
			l.verdict = Transient // its row alone is bad: it comes again, and holds no other up
			r.log.Error("message waits for a row that cannot be decoded", "instance", l.msg.InstanceID, "event", l.msg.About, "err", err)
		default:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// askAfterOld finds the launches that are old and left no row. Those that EC2
// says are alive get the change that adds them; those that are not get a
// verdict. An error is the store's; if EC2 does not answer, they come again.
func (r *Reader) askAfterOld(ctx context.Context, letters []*letter) (map[*letter]fleet.Change, error) {
	var old []*letter
	var ids []string
	for _, l := range letters {
		if l.verdict == "" && l.msg.Kind == Launched && time.Since(l.msg.At) > fresh {
			old, ids = append(old, l), append(ids, l.msg.InstanceID)
		}
	}
	if len(old) == 0 {
		return nil, nil
	}
	rows, err := r.store.Minions(ctx, ids)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return nil, err
	}
	old = slices.DeleteFunc(old, func(l *letter) bool {
		_, found := rows[l.msg.InstanceID]
		return found || bad[l.msg.InstanceID] != nil
	})
	if len(old) == 0 {
		return nil, nil
	}
	since, err := r.store.Since(ctx)
	if err != nil {
		return nil, err
	}
	instances, err := describe(ctx, r.ec2, ids)
	adds := map[*letter]fleet.Change{}
	for _, l := range old {
		i, known := instances[l.msg.InstanceID]
		switch {
		case err != nil:
			l.verdict = Transient
		case !known || i.Gone():
			l.verdict = NotOurs
			r.log.Info("old launch passed over", "instance", l.msg.InstanceID, "group", l.msg.Group, "ec2", i.State, "launch", l.msg.At)
		default:
			adds[l] = fleet.Add{InstanceID: l.msg.InstanceID, Group: l.msg.Group, HookName: l.msg.Hook,
				Adopted: i.Launched.Before(since)}
		}
	}
	if err != nil {
		r.log.Warn("old launches wait for EC2's word", "messages", len(old), "err", withHint(err))
	}
	return adds, nil
}
