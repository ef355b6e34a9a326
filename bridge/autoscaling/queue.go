package autoscaling

import (
	"context"
	"errors"
	"log/slog"
	"slices"

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

// New puts the parts together that the configuration asks for.
func New(cfg Config, store fleet.Store, api API, log *slog.Logger) (*Queue, error) {
	var q Queue
	var err error
	if q.hooks, err = NewHooks(cfg, store, api.Lifecycle, log); err != nil {
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
	if q.reader != nil && q.rec != nil {
		q.rec.counted = q.reader.terminations.resize
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
	Messages *Stats `json:"messages"` // null: no queue is named
	// terminations that messages reported, and that wait for EC2's answer: see Release
	Held      []string `json:"held"`
	Refuted   []string `json:"refuted"`   // reported as terminated within the last day; EC2 reports them as running
	Reconcile *Report  `json:"reconcile"` // null: no group is named
	Hooks     int      `json:"hooks"`     // instances that a lifecycle hook holds
	// instances kept within the last hour though their first highstate failed (autoscaling.launch_failures)
	Kept []string `json:"kept"`
}

// Status may be called by any goroutine.
func (q *Queue) Status() Status {
	s := Status{Hooks: q.hooks.Waiting(), Kept: q.hooks.Kept()}
	if q.reader != nil {
		stats := q.reader.Stats()
		s.Messages = &stats
		s.Held, s.Refuted = q.reader.Held()
	}
	if q.rec != nil {
		report := q.rec.Report()
		s.Reconcile = &report
	}
	return s
}

// Release retires the instances that the termination limit holds, as an operator asked, and returns them.
func (q *Queue) Release(ctx context.Context) (released []string, err error) {
	var errs []error
	if q.rec != nil {
		ids, err := q.rec.Release(ctx)
		released, errs = ids, append(errs, err)
	}
	if q.reader != nil {
		ids, err := q.reader.Release(ctx)
		released, errs = append(released, ids...), append(errs, err)
	}
	slices.Sort(released)
	return slices.Compact(released), errors.Join(errs...)
}
