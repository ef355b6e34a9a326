package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"

	"phoenix/bridge/fleet"
)

// Groups is as much of AutoScaling's API as reconciling needs.
type Groups interface {
	DescribeAutoScalingGroups(context.Context, *autoscaling.DescribeAutoScalingGroupsInput, ...func(*autoscaling.Options)) (*autoscaling.DescribeAutoScalingGroupsOutput, error)
}

const (
	// ReconcileEvery bounds for how long a message that never came can matter.
	ReconcileEvery = 5 * time.Minute
	// secondAfter: a pass in which EC2 called an instance terminated is followed by
	// another that soon, for the second word. Long enough that an answer which was
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
	Held    []string  `json:"held"`    // terminations held by the brake: see Release
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

	counted func(fleet int) // is told how many instances there are; may be nil

	passing sync.Mutex // held by Pass and Release
	told    string     // the last complaint, not to be repeated each pass
	why     string     // what is wrong with one of the bad rows

	mu     sync.Mutex // guards what follows, never while AWS or the store are asked
	memory memory
	report Report
}

// NewReconciler makes a Reconciler; it does nothing until Run or Pass is called.
func NewReconciler(cfg Config, store fleet.Store, groups Groups, instances EC2, h *Hooks, log *slog.Logger) (*Reconciler, error) {
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
		wait := jittered(r.pause())
		if err != nil {
			failures++
			wait = min(wait, backoff(failures))
		} else {
			failures = 0
		}
		sleep(ctx, wait)
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

func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + jitter*(2*rand.Float64()-1)))
}

// Report may be called by any goroutine.
func (r *Reconciler) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.report
	report.Held = slices.Sorted(maps.Keys(r.memory.held))
	return report
}

// Held gives the instances that EC2 calls terminated and that are held all the
// same: too many at once.
func (r *Reconciler) Held() []string { return r.Report().Held }

// Release retires what is held, an operator's word, and returns it. What EC2 says
// lives by now is left out, if it answers.
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
		r.cfg.told(rows)
	}
	if err != nil {
		return nil, fmt.Errorf("retire %d held instances: %w", len(held), err)
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
	r.report = Report{Passed: time.Now(), Unknown: p.unknown, Missing: f.missing, Revived: p.revived, Bad: slices.Sorted(maps.Keys(bad))}
	r.why = ""
	for _, id := range r.report.Bad[:min(len(r.report.Bad), 1)] {
		r.why = bad[id].Error()
	}
	r.memory = p.next
	r.complain()
	return nil
}

// pass does what follows from the facts. If EC2 does not answer, that is an error, and
// yet done is what does not need its word.
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

// found is what a pass has found out, and what it has not.
type found struct {
	facts
	missing []string         // groups that AutoScaling does not know
	unread  map[string]error // rows that cannot be read
	ec2     error            // why EC2 did not answer
}

// pass over rows that cannot be read; what is left of the error is the store's.
func (f *found) passOver(err error) error {
	bad, err := fleet.WithoutBadRows(err)
	for id, why := range bad {
		f.unread[id], f.bad[id] = why, true
	}
	return err
}

// find gathers the facts.
func (r *Reconciler) find(ctx context.Context, m memory) (f found, err error) {
	f = found{facts: facts{rows: map[string]fleet.Minion{}, bad: map[string]bool{}}, unread: map[string]error{}}
	if f.members, f.missing, err = r.members(ctx); err != nil {
		return f, err
	}
	err = r.store.ByStatus(ctx, fleet.Launch, "", func(page []fleet.Minion) error {
		for _, row := range page {
			row.PublicKey = "" // half of a row, and nothing here needs it
			f.rows[row.InstanceID] = row
		}
		return nil
	})
	if err = f.passOver(err); err != nil {
		return f, fmt.Errorf("list minions: %w", err)
	}
	// Members that the listing lacks: without a row, terminated, or written since.
	var others []string
	for id := range f.members {
		if _, found := f.rows[id]; !found {
			others = append(others, id)
		}
	}
	for chunk := range slices.Chunk(others, applyAtOnce) {
		rows, err := r.store.Minions(ctx, chunk)
		if err = f.passOver(err); err != nil {
			return f, fmt.Errorf("look up %d instances: %w", len(chunk), err)
		}
		maps.Copy(f.rows, rows)
	}
	var bad map[string]error
	if f.masters, bad, err = r.masters(ctx); err != nil {
		return f, err
	}
	for id, why := range bad {
		f.unread[id], f.bad[id] = why, true
	}
	if f.since, err = r.store.Since(ctx); err != nil {
		return f, err
	}
	ids := f.ask()
	if f.instances, f.ec2 = describe(ctx, r.ec2, ids); f.ec2 != nil {
		f.away = true
		return f, nil
	}
	if slices.ContainsFunc(ids, func(id string) bool { return m.gone[id] }) {
		f.inferred, err = r.inferred(ctx)
	}
	return f, err
}

// members asks for the named groups, and says which of them are not there.
func (r *Reconciler) members(ctx context.Context) (map[string]member, []string, error) {
	members, missing := map[string]member{}, map[string]bool{}
	for _, g := range r.cfg.Groups {
		missing[g.Name] = true
	}
	for names := range slices.Chunk(slices.Sorted(maps.Keys(missing)), groupsAtOnce) {
		in := &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: names, MaxRecords: aws.Int32(groupsAtOnce)}
		for pages := 1; ; pages++ {
			out, err := r.groupPage(ctx, in)
			if err == nil && pages > groupPages {
				err = errors.New("pages without end")
			}
			if err != nil {
				return nil, nil, fmt.Errorf("describe groups: %w", err)
			}
			for _, g := range out.AutoScalingGroups {
				name := aws.ToString(g.AutoScalingGroupName)
				delete(missing, name)
				for _, i := range g.Instances {
					if id := aws.ToString(i.InstanceId); instanceID.MatchString(id) {
						members[id] = member{name, string(i.LifecycleState)}
					}
				}
			}
			if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
				break
			}
		}
	}
	return members, slices.Sorted(maps.Keys(missing)), nil
}

func (r *Reconciler) groupPage(ctx context.Context, in *autoscaling.DescribeAutoScalingGroupsInput) (*autoscaling.DescribeAutoScalingGroupsOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	return r.groups.DescribeAutoScalingGroups(ctx, in)
}

// masters gives the masters whose rows say LAUNCH, and those whose rows cannot be read.
func (r *Reconciler) masters(ctx context.Context) (map[string]bool, map[string]error, error) {
	rows, bad, err := mastersOf(ctx, r.store)
	masters := map[string]bool{}
	for id, m := range rows {
		if m.Status == fleet.Launch {
			masters[id] = true
		}
	}
	return masters, bad, err
}

// inferred counts the terminations that any master inferred lately: the brake is
// one for all, and holds over a restart.
func (r *Reconciler) inferred(ctx context.Context) (n int, err error) {
	now := time.Now()
	err = r.store.ByStatus(ctx, fleet.Terminate, fleet.FormatTime(now.Add(-brakeWindow)), func(page []fleet.Minion) error {
		for _, row := range page {
			if row.Inferred && endedLately(row, now) {
				n++
			}
		}
		return nil
	})
	if _, err = fleet.WithoutBadRows(err); err != nil {
		return 0, fmt.Errorf("list terminated minions: %w", err)
	}
	return n, nil
}
