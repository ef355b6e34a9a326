package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"

	"phoenix/bridge/awserr"
	"phoenix/bridge/fleet"
	"phoenix/bridge/plural"
)

// Lifecycle is as much of AutoScaling's API as hooks need.
type Lifecycle interface {
	CompleteLifecycleAction(context.Context, *autoscaling.CompleteLifecycleActionInput,
		...func(*autoscaling.Options)) (*autoscaling.CompleteLifecycleActionOutput, error)
	RecordLifecycleActionHeartbeat(context.Context, *autoscaling.RecordLifecycleActionHeartbeatInput,
		...func(*autoscaling.Options)) (*autoscaling.RecordLifecycleActionHeartbeatOutput, error)
	DescribeLifecycleHooks(context.Context, *autoscaling.DescribeLifecycleHooksInput,
		...func(*autoscaling.Options)) (*autoscaling.DescribeLifecycleHooksOutput, error)
	DescribeAutoScalingInstances(context.Context, *autoscaling.DescribeAutoScalingInstancesInput,
		...func(*autoscaling.Options)) (*autoscaling.DescribeAutoScalingInstancesOutput, error)
}

// The results that a lifecycle action may have.
const (
	goOn   = "CONTINUE"
	giveUp = "ABANDON"
)

const (
	// beatMost is how often a hook is extended, or three times within its timeout.
	beatMost = 2 * time.Minute
	// unknownTimeout is what AutoScaling gives a hook that names none.
	unknownTimeout = time.Hour
	// completeWithin bounds a call about a hook, and the last check while the bridge
	// stops.
	completeWithin = 10 * time.Second
	// hooksFor: what a group's hooks are is asked again after so long, and after
	// hooksRetry where the answer was an error.
	hooksFor   = 10 * time.Minute
	hooksRetry = time.Minute
	// statesAtOnce is the most instances that one question about states may name.
	statesAtOnce = 50
	// maxGroups bounds the groups whose hooks are remembered.
	maxGroups = 1000
)

// hook is one configured lifecycle hook of a group.
type hook struct {
	name    string
	of      Kind // Launched or Ended
	timeout time.Duration
}

// hookCache remembers the hooks of groups.
type hookCache struct {
	mu     sync.Mutex
	groups map[string]groupHooks
	quiet  time.Time // AutoScaling does not answer: no group is asked for before
}

type groupHooks struct {
	hooks []hook
	err   error
	until time.Time
}

// configured returns the hooks of a group whose names are configured.
func (h *Hooks) configured(ctx context.Context, group string) ([]hook, error) {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	if g, known := h.of.groups[group]; known && time.Now().Before(g.until) {
		return g.hooks, g.err
	}
	old := h.of.groups[group]
	if time.Now().Before(h.of.quiet) {
		return old.hooks, errQuiet
	}
	hooks, err := h.describeHooks(ctx, group)
	if ctx.Err() != nil {
		return old.hooks, err
	}
	g := groupHooks{hooks: hooks, err: err, until: time.Now().Add(hooksFor)}
	if err != nil {
		g.hooks, g.until = old.hooks, time.Now().Add(hooksRetry)
		if !invalid(err) {
			h.of.quiet = g.until
		}
		if old.err == nil {
			h.log.Warn("lifecycle hooks of a group are not known", "group", group, "err", withHint(err))
		}
	}
	if h.of.groups == nil || len(h.of.groups) >= maxGroups {
		h.of.groups = map[string]groupHooks{}
	}
	h.of.groups[group] = g
	return g.hooks, err
}

// errQuiet: AutoScaling did not answer a moment ago.
var errQuiet = errors.New("lifecycle hooks were asked for a moment ago, without an answer")

// invalid reports whether AutoScaling refuses a call for what it asks.
func invalid(err error) bool {
	return awserr.Code(err) == "ValidationError"
}

func (h *Hooks) describeHooks(ctx context.Context, group string) ([]hook, error) {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	out, err := h.api.DescribeLifecycleHooks(ctx,
		&autoscaling.DescribeLifecycleHooksInput{AutoScalingGroupName: &group})
	if err != nil {
		return nil, fmt.Errorf("describe lifecycle hooks of %s: %w", group, err)
	}
	var hooks []hook
	for _, d := range out.LifecycleHooks {
		kind, is, _ := meaning(aws.ToString(d.LifecycleTransition))
		if name := aws.ToString(d.LifecycleHookName); is && h.cfg.ourHook(name) {
			timeout := time.Duration(aws.ToInt32(d.HeartbeatTimeout)) * time.Second
			if timeout <= 0 {
				timeout = unknownTimeout
			}
			hooks = append(hooks, hook{name, kind, timeout})
		}
	}
	return hooks, nil
}

// timeout is how long AutoScaling waits without a heartbeat.
func (h *Hooks) timeout(ctx context.Context, group, name string) time.Duration {
	hooks, _ := h.configured(ctx, group)
	if i := slices.IndexFunc(hooks, func(k hook) bool { return k.name == name }); i >= 0 {
		return hooks[i].timeout
	}
	return unknownTimeout
}

// states asks AutoScaling in which lifecycle state instances stand. One that is in no
// group is absent.
func (h *Hooks) states(ctx context.Context, ids []string) (map[string]string, error) {
	states := map[string]string{}
	for chunk := range slices.Chunk(ids, statesAtOnce) {
		call, cancel := context.WithTimeout(ctx, completeWithin)
		out, err := h.api.DescribeAutoScalingInstances(call,
			&autoscaling.DescribeAutoScalingInstancesInput{InstanceIds: chunk})
		cancel()
		if err != nil {
			return nil, fmt.Errorf("describe %s of groups: %w", plural.Of(len(chunk), "instance"), err)
		}
		for _, i := range out.AutoScalingInstances {
			states[aws.ToString(i.InstanceId)] = aws.ToString(i.LifecycleState)
		}
	}
	return states, nil
}

// end ends a hook, on a context of its own: what is so stays so while the bridge
// stops. AutoScaling may say that there is no such action while the instance still
// waits (seen on AWS in August 2026), so it is over only if the instance's state
// says so, too.
func (h *Hooks) end(ctx context.Context, m Message, result string) error {
	ctx = context.WithoutCancel(ctx)
	err := h.complete(ctx, m, result)
	switch {
	case err == nil:
		h.log.Info("lifecycle hook completed", "instance", m.InstanceID, "group", m.Group, "hook", m.Hook,
			"result", result)
		return nil
	case !invalid(err):
		return err
	}
	states, asked := h.states(ctx, []string{m.InstanceID})
	if asked != nil {
		return errors.Join(err, asked)
	}
	if state := states[m.InstanceID]; holds(state, m.Kind) {
		return fmt.Errorf("%w, but the instance stands in %s", err, state)
	}
	h.log.Info("lifecycle hook already completed", "instance", m.InstanceID, "hook", m.Hook, "said", err)
	return nil
}

func (h *Hooks) complete(ctx context.Context, m Message, result string) error {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	_, err := h.api.CompleteLifecycleAction(ctx, &autoscaling.CompleteLifecycleActionInput{
		AutoScalingGroupName: &m.Group, LifecycleHookName: &m.Hook, InstanceId: &m.InstanceID,
		LifecycleActionResult: aws.String(result),
	})
	if err != nil {
		return fmt.Errorf("complete lifecycle action: %w", err)
	}
	return nil
}

// holds reports whether an instance in a lifecycle state waits in a hook of that kind.
// On its way back into the warm pool it waits in a hook of the termination.
func holds(state string, kind Kind) bool {
	switch kind {
	case Launched:
		return strings.HasSuffix(state, "Pending:Wait")
	case Ended:
		return strings.HasSuffix(state, "Terminating:Wait")
	}
	return strings.HasSuffix(state, ":Wait")
}

// errChanged: the row says something else than a moment ago. It is checked again.
var errChanged = errors.New("its row changed meanwhile")

// abandon gives a launching instance up: AutoScaling terminates and replaces it. Row
// and state are read once more just before. An instance of the warm pool is not given
// up: it may be stopped, and what becomes of it the hook's own default says.
func (h *Hooks) abandon(ctx context.Context, w *wait, why string, timeout time.Duration) error {
	row, err := h.store.Minion(ctx, w.InstanceID)
	if err != nil && !errors.Is(err, fleet.ErrNotFound) {
		return err
	}
	w.see(row, time.Now())
	if s, _ := next(w, row, h.cfg.Attempts, timeout, time.Now()); s != abandon {
		return errChanged
	}
	states, err := h.states(ctx, []string{w.InstanceID})
	if err != nil {
		return err
	}
	switch state := states[w.InstanceID]; {
	case !holds(state, Launched):
		h.log.Info("lifecycle hook already completed", "instance", w.InstanceID, "hook", w.Hook, "state", state)
		return nil
	case strings.HasPrefix(state, "Warmed:"):
		h.log.Warn("launching instance of the warm pool not abandoned", "instance", w.InstanceID, "group", w.Group,
			"reason", why)
		return nil
	}
	keep, err := h.keep(ctx, w)
	if err != nil {
		return err
	}
	if keep {
		if err := h.end(ctx, w.Message, goOn); err != nil {
			return err
		}
		h.kept.add(w.InstanceID)
		h.cfg.decided(h.log, "launching instance kept: too many of its group failed in a row", row.SaltID(), "instance",
			w.InstanceID, "group", w.Group, "hook", w.Hook, "reason", why)
		return nil
	}
	if err := h.end(ctx, w.Message, giveUp); err != nil {
		return err
	}
	h.cfg.decided(h.log, "launching instance abandoned", row.SaltID(), "instance", w.InstanceID, "group", w.Group,
		"hook", w.Hook, "reason", why)
	return nil
}

func (h *Hooks) heartbeat(ctx context.Context, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	_, err := h.api.RecordLifecycleActionHeartbeat(ctx, &autoscaling.RecordLifecycleActionHeartbeatInput{
		AutoScalingGroupName: &m.Group, LifecycleHookName: &m.Hook, InstanceId: &m.InstanceID,
	})
	if invalid(err) {
		return nil // over: the row says when to forget it
	}
	return err
}
