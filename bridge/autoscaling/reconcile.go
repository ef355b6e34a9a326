package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/autoscaling"

	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
	"phoenix/bridge/retry"
)

// Groups is as much of AutoScaling's API as reconciling needs.
type Groups interface {
	DescribeAutoScalingGroups(context.Context, *autoscaling.DescribeAutoScalingGroupsInput,
		...func(*autoscaling.Options)) (*autoscaling.DescribeAutoScalingGroupsOutput, error)
}

const (
	// ReconcileEvery bounds for how long a message that never came can matter.
	ReconcileEvery = 5 * time.Minute
	// secondAfter: a pass in which EC2 called an instance terminated is followed by
	// another that soon, for the second answer. Long enough that an answer which was
	// wrong by a hitch is not given again.
	secondAfter = time.Minute
	// drainWithin: the first pass waits for the queues to be read, but not for a
	// backlog without end.
	drainWithin = 2 * time.Minute
	// jitter keeps masters that were started together apart.
	jitter = 0.2
	// groupsAtOnce is the most that one answer lists.
	groupsAtOnce = 100
	// groupPages bounds an answer that pages without end.
	groupPages = 1000
	// applyAtOnce bounds one call of the store.
	applyAtOnce = 100
)

// Report is what reconciling has to say.
type Report struct {
	Passed  time.Time `json:"passed"`  // the last pass that came through; zero: none
	Error   string    `json:"error"`   // of the last pass
	Held    []string  `json:"held"`    // terminations that wait because of the termination limit: see Release
	Unknown []string  `json:"unknown"` // LAUNCH, in no group, and EC2 does not know them
	Missing []string  `json:"missing"` // groups that AutoScaling does not know
	Revived []string  `json:"revived"` // in service, though their rows say TERMINATE
	Bad     []string  `json:"bad"`     // whose rows cannot be read or written: passed over
}

// Reconciler compares the fleet with what AutoScaling and EC2 say.
type Reconciler struct {
	cfg    Config
	store  fleet.Store
	groups Groups
	ec2    EC2
	hooks  *Hooks
	log    *slog.Logger

	counted func(fleet int) // is called with the number of instances; may be nil

	passing sync.Mutex // locked by Pass and Release
	warned  string     // the last warning, which is not repeated each pass
	why     string     // what is wrong with one of the bad rows

	mu     sync.Mutex // guards what follows, never while AWS or the store are asked
	memory memory
	report Report
}

// NewReconciler makes a Reconciler; it does nothing until Run or Pass is called.
func NewReconciler(cfg Config, store fleet.Store, groups Groups, instances EC2, h *Hooks,
	log *slog.Logger) (*Reconciler, error) {
	switch {
	case len(cfg.Groups) == 0:
		return nil, errors.New("reconcile: no group is named")
	case store == nil || groups == nil || instances == nil || h == nil || log == nil:
		return nil, errors.New("reconcile: a part is missing")
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("reconcile: %w", err)
	}
	if cfg.Every <= 0 {
		cfg.Every = ReconcileEvery
	}
	return &Reconciler{cfg: cfg, store: store, groups: groups, ec2: instances, hooks: h, log: log}, nil
}

// Run passes at once, when drained is closed or has had its time, and every few
// minutes from then on, until ctx ends. No error of AWS or of the store ends it.
func (r *Reconciler) Run(ctx context.Context, drained <-chan struct{}) error {
	if drained != nil {
		select {
		case <-ctx.Done():
		case <-drained:
		case <-time.After(drainWithin):
		}
	}
	for failures := 0; ctx.Err() == nil; {
		err := r.Pass(ctx)
		wait := retry.Spread(r.pause(), jitter)
		if err != nil {
			failures++
			wait = min(wait, backoff(failures))
		} else {
			failures = 0
		}
		retry.Sleep(ctx, wait)
	}
	return nil
}

// pause is how long a pass is good for.
func (r *Reconciler) pause() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.memory.first {
		return min(secondAfter, r.cfg.Every)
	}
	return r.cfg.Every
}

// Report may be called by any goroutine.
func (r *Reconciler) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.report
	report.Held = slices.Sorted(maps.Keys(r.memory.held))
	return report
}

// Held returns the instances that EC2 reports as terminated and that wait for an
// operator: too many at once.
func (r *Reconciler) Held() []string { return r.Report().Held }

// Release retires those instances, as an operator asked, and returns them. It leaves
// out instances that EC2 now reports as running, if EC2 answers.
func (r *Reconciler) Release(ctx context.Context) ([]string, error) {
	r.passing.Lock()
	defer r.passing.Unlock()
	held := r.Held()
	if instances, err := describe(ctx, r.ec2, held); err == nil {
		held = slices.DeleteFunc(held, func(id string) bool { i, known := instances[id]; return known && !i.Gone() })
	}
	masters, _, err := r.masters(ctx)
	if err == nil {
		var rows []fleet.Minion
		rows, err = retire(ctx, r.store, held, masters, false)
		r.cfg.changed(rows)
	}
	if err != nil {
		return nil, fmt.Errorf("retire %s: %w", plural.Of(len(held), "held instance"), err)
	}
	r.mu.Lock()
	r.memory.held = nil
	r.mu.Unlock()
	return held, nil
}

// Pass compares once. An error leaves as it was what it is about: what could not be
// read, in part or in whole, is no ground for anything.
func (r *Reconciler) Pass(ctx context.Context) error {
	r.passing.Lock()
	defer r.passing.Unlock()
	p, f, bad, err := r.pass(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			r.report.Error = withHint(err).Error()
			r.say(slog.LevelError, "fleet and AutoScaling are not compared", "err", withHint(err))
		}
		return err
	}
	r.report = Report{Passed: time.Now(), Unknown: p.unknown, Missing: f.missing, Revived: p.revived,
		Bad: slices.Sorted(maps.Keys(bad))}
	r.why = ""
	for _, id := range r.report.Bad[:min(len(r.report.Bad), 1)] {
		r.why = bad[id].Error()
	}
	r.memory = p.next
	r.complain()
	return nil
}

// pass does what follows from the facts. If EC2 does not answer, that is an error, and
// yet done is what does not need its answer.
func (r *Reconciler) pass(ctx context.Context) (p plan, f found, bad map[string]error, err error) {
	r.mu.Lock()
	m := r.memory
	r.mu.Unlock()
	if f, err = r.find(ctx, m); err != nil {
		return p, f, nil, err
	}
	if r.counted != nil {
		r.counted(len(f.launched()))
	}
	p = decide(f.facts, m)
	bad, err = r.carryOut(ctx, p, f.masters)
	for id, err := range f.unread {
		bad[id] = err
	}
	return p, f, bad, errors.Join(f.ec2, err)
}
