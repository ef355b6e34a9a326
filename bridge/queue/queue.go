package queue

import (
	"context"
	"errors"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
)

// API is what is asked of AWS. SQS is needed where a queue is named, Groups where
// a group is.
type API struct {
	SQS       SQS
	Groups    Groups
	Lifecycle Lifecycle
	EC2       EC2
}

// Queue is all that this package does for one master: messages, reconciling, hooks.
type Queue struct {
	hooks  *Hooks
	reader *Reader     // nil: no queue is named
	rec    *Reconciler // nil: no group is named
}

// New puts the parts together that the configuration asks for. gone says whether
// this master holds no key of a minion any more.
func New(cfg Config, store fleet.Store, api API, gone func(minionID string) (bool, error), log *slog.Logger) (*Queue, error) {
	var q Queue
	var err error
	if q.hooks, err = NewHooks(cfg, store, api.Lifecycle, gone, log); err != nil {
		return nil, err
	}
	if len(cfg.Queues) > 0 {
		if q.reader, err = NewReader(cfg, store, api.SQS, api.EC2, q.hooks, log); err != nil {
			return nil, err
		}
	}
	if len(cfg.Groups) > 0 {
		if q.rec, err = NewReconciler(cfg, store, api.Groups, api.EC2, q.hooks, log); err != nil {
			return nil, err
		}
	}
	return &q, nil
}

// Run runs until ctx ends. No error of AWS or of the store ends it.
func (q *Queue) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return q.hooks.Run(ctx) })
	var drained <-chan struct{}
	if q.reader != nil {
		drained = q.reader.Drained()
		g.Go(func() error { return q.reader.Run(ctx) })
	}
	if q.rec != nil {
		g.Go(func() error { return q.rec.Run(ctx, drained) })
	}
	return g.Wait()
}

// Status is what the parts say of themselves.
type Status struct {
	Messages  *Stats  `json:"messages"`  // null: no queue is named
	Reconcile *Report `json:"reconcile"` // null: no group is named
	Hooks     int     `json:"hooks"`     // instances that a lifecycle hook holds
}

// Status may be called by any goroutine.
func (q *Queue) Status() Status {
	s := Status{Hooks: q.hooks.Waiting()}
	if q.reader != nil {
		stats := q.reader.Stats()
		s.Messages = &stats
	}
	if q.rec != nil {
		report := q.rec.Report()
		s.Reconcile = &report
	}
	return s
}

// ErrNoGroup: nothing is reconciled, and so nothing can be held.
var ErrNoGroup = errors.New("autoscaling.groups names no group: nothing is held")

// Release retires what the brake holds, an operator's word, and returns it.
func (q *Queue) Release(ctx context.Context) ([]string, error) {
	if q.rec == nil {
		return nil, ErrNoGroup
	}
	return q.rec.Release(ctx)
}
