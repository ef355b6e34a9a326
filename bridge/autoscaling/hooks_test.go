package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// TestNextOfHook lists, for every kind of row, what a launch hook then does.
func TestNextOfHook(t *testing.T) {
	const timeout = 10 * time.Minute
	for name, c := range map[string]struct {
		state    string // of fleettest.States
		attempts int
		still    time.Duration // since it last got on
		waited   time.Duration
		want     step
	}{
		"no row":                             {"absent", 3, 0, 0, stay},
		"no row, for long":                   {"absent", 3, timeout + 1, 0, drop},
		"has sent no auth request":           {"hooked", 3, timeout, 0, stay},
		"has sent no auth request, for long": {"hooked", 3, timeout + 1, 0, drop},
		"accepted":                           {"bound", 3, 0, 0, beat},
		"accepted, and nothing since":        {"bound", 3, timeout + 1, 0, abandon},
		"highstate runs":                     {"claimed", 3, timeout, 0, beat},
		"highstate hangs":                    {"claimed", 3, timeout + 1, 0, abandon},
		"highstate was busy":                 {"busy", 3, 0, 0, beat},
		"highstate is ever busy":             {"busy", 3, timeout + 1, 0, abandon},
		"first attempt failed":               {"failed", 3, 0, 0, beat},
		"last attempt failed":                {"failed", 1, 0, 0, abandon},
		"last job was lost":                  {"vanished", 1, 0, 0, abandon},
		"second attempt runs":                {"second", 2, 0, 0, beat},
		"highstate succeeded":                {"done", 3, timeout + 1, 0, proceed},
		"asked for again":                    {"again", 3, 0, 0, beat},
		"adopted":                            {"adopted", 3, 0, 0, proceed},
		"terminated meanwhile":               {"retired", 3, 0, 0, drop},
		"no highstates: waits":               {"hooked", 0, 0, 0, stay},
		"no highstates: goes on":             {"bound", 0, timeout + 1, 0, proceed},
		"too long":                           {"claimed", 3, 0, tendFor + 1, drop},
	} {
		now := time.Now()
		w := &wait{begun: now.Add(-c.waited), progress: progress{moved: now.Add(-c.still)}}
		if got, why := next(w, rowOf(t, c.state), c.attempts, timeout, now); got != c.want ||
			(got == abandon) != (why != "") {
			t.Errorf("%s: %s (%s), want %s", name, got, why, c.want)
		}
	}
	for state, want := range map[string]step{"absent": stay, "done": stay, "retired": proceed,
		"retired-unknown": proceed, "stripped": proceed} {
		if got := nextOfEnded(&wait{begun: time.Now()}, rowOf(t, state), time.Now()); got != want {
			t.Errorf("terminating, row %s: %s, want %s", state, got, want)
		}
	}
}

// rowOf returns the row of one of fleettest's states.
func rowOf(t *testing.T, state string) fleet.Minion {
	t.Helper()
	rows := fleettest.Model{}
	for _, s := range fleettest.States() {
		if s.Name == state {
			rows.Apply(s.Changes("i")...)
			return rows["i"]
		}
	}
	t.Fatalf("no state %s", state)
	return fleet.Minion{}
}

// TestProgress: a claim counts once, and a return; to be taken over or refused as busy
// is no progress, however often.
func TestProgress(t *testing.T) {
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := progress{moved: begun}
	for i, c := range []struct {
		row   fleet.Minion
		moves bool
	}{
		{fleet.Minion{}, false},
		{fleet.Minion{KeySHA256: "k"}, true},
		{fleet.Minion{KeySHA256: "k"}, false},
		{fleet.Minion{KeySHA256: "k", ClaimVersion: 1, ClaimState: fleet.Claimed, Attempt: 1}, true},
		{fleet.Minion{KeySHA256: "k", ClaimVersion: 2, ClaimState: fleet.Claimed, Attempt: 1, ClaimOwner: "another"},
			false},
		{fleet.Minion{KeySHA256: "k", ClaimVersion: 3}, false}, // busy
		{fleet.Minion{KeySHA256: "k", ClaimVersion: 4, ClaimState: fleet.Claimed, Attempt: 1}, false},
		{fleet.Minion{KeySHA256: "k", ClaimVersion: 5, ClaimState: fleet.Failed, Attempt: 1}, true},
		{fleet.Minion{KeySHA256: "k", ClaimVersion: 6, ClaimState: fleet.Claimed, Attempt: 2}, true},
		{fleet.Minion{KeySHA256: "k", ClaimVersion: 7, Attempt: 1}, false}, // busy
		{fleet.Minion{KeySHA256: "other", ClaimVersion: 8}, true},          // rebound by an admin
	} {
		now := begun.Add(time.Duration(i+1) * time.Minute)
		before := p.moved
		p.see(c.row, now)
		if (p.moved != before) != c.moves {
			t.Errorf("%d: moved %v", i, p.moved != before)
		}
	}
}

// keeper is Hooks at work over a real store and a fake AWS.
type keeper struct {
	*fakeAWS
	store fleet.Store
	hooks *Hooks
	log   *lines
	trail *lines // of decisions
	left  atomic.Int64
	stop  func()
}

// newKeeper starts the Hooks of the master instance(2). Instance 1 waits in Pending:Wait.
func newKeeper(t *testing.T) *keeper {
	t.Helper()
	x := &keeper{store: newStore(t), log: &lines{}, trail: &lines{}}
	x.fakeAWS = &fakeAWS{groups: map[string]map[string]string{"web": {instance(1): "Pending:Wait"}, "salt": {}}}
	x.left.Store(3)
	cfg := Config{Groups: webAndMasters, Self: instance(2), Hooks: ourNames, Attempts: 2, Decisions: x.trail.logger(),
		Left: func() (int, error) {
			n := int(x.left.Load())
			if n < 0 {
				return 0, errors.New("nothing listens")
			}
			return n, nil
		}}
	var err error
	if x.hooks, err = NewHooks(cfg, x.store, x.autoscaling(), x.log.logger()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.hooks.Run(ctx) }()
	x.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return x
}

func (x *keeper) apply(t *testing.T, changes ...fleet.Change) {
	t.Helper()
	results, err := x.store.Apply(t.Context(), changes)
	for _, r := range results {
		err = errors.Join(err, r.Err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// results returns how hooks were ended.
func (x *keeper) results() (all []string) {
	for _, c := range x.of("CompleteLifecycleAction") {
		all = append(all, c.form.Get("LifecycleActionResult"))
	}
	return all
}

var (
	added   = fleet.Add{InstanceID: instance(1), Group: "web", HookName: upHook}
	bound   = fleet.Bind{InstanceID: instance(1), KeySHA256: "k", PublicKey: "p"}
	claimed = fleet.Claim{InstanceID: instance(1), Owner: "m", JID: "j1", Attempt: 1}
	done    = fleet.Finish{InstanceID: instance(1), JID: "j1", Outcome: fleet.Succeeded}
	waiting = Message{Kind: Launched, InstanceID: instance(1), Group: "web", Hook: upHook}
	leaving = Message{Kind: Ended, InstanceID: instance(1), Group: "web", Hook: downHook}
)

func failed(from int64, jid string, attempt int) []fleet.Change {
	return []fleet.Change{fleet.Claim{InstanceID: instance(1), From: from, Owner: "m", JID: jid, Attempt: attempt},
		fleet.Finish{InstanceID: instance(1), JID: jid, Outcome: fleet.Erred, Retcode: 2}}
}

// A launching instance waits for its highstate; its hook is extended while it makes progress.
func TestLaunchHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.apply(t, added)
		x.hooks.Tend(waiting, Minions)
		time.Sleep(hookTimeout / 2)
		if n := x.count("RecordLifecycleActionHeartbeat"); n != 0 {
			t.Errorf("%d heartbeats for one that has sent no auth request", n)
		}
		x.apply(t, bound, claimed)
		time.Sleep(hookTimeout - time.Minute)
		if n := x.count("RecordLifecycleActionHeartbeat"); n < 13 || n > 15 || len(x.results()) != 0 {
			t.Errorf("%d heartbeats in half an hour, ended with %v", n, x.results())
		}
		x.apply(t, done)
		time.Sleep(checkEvery)
		synctest.Wait()
		calls := x.of("CompleteLifecycleAction")
		if len(calls) != 1 || !calls[0].bounds || x.hooks.Waiting() != 0 {
			t.Fatalf("%+v, %d wait", calls, x.hooks.Waiting())
		}
		for key, want := range map[string]string{"AutoScalingGroupName": "web", "LifecycleHookName": upHook,
			"InstanceId":            instance(1),
			"LifecycleActionResult": goOn, "LifecycleActionToken": ""} {
			if got := calls[0].form.Get(key); got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
		n := len(x.calls)
		time.Sleep(time.Hour)
		if len(x.calls) != n {
			t.Errorf("%d calls after the end", len(x.calls)-n)
		}
	})
}

// A minion that dies, or whose states hang, is not extended beyond the hook's own
// timeout, though its claim is taken over and refused as busy all the while.
func TestHungHighstateIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.apply(t, added, bound, claimed)
		x.hooks.Tend(waiting, Minions)
		begun := time.Now()
		for n := int64(1); len(x.results()) == 0 && time.Since(begun) < 3*hookTimeout; n += 2 {
			time.Sleep(time.Minute)
			jid := fmt.Sprintf("j%d", n)
			x.apply(t, fleet.Finish{InstanceID: instance(1), JID: jid, Outcome: fleet.Busy},
				fleet.Claim{InstanceID: instance(1), From: n + 1, Owner: "m", JID: fmt.Sprintf("j%d", n+2), Attempt: 1})
		}
		took := time.Since(begun)
		if got := fmt.Sprint(x.results()); got != "[ABANDON]" || took < hookTimeout ||
			took > hookTimeout+2*time.Minute {
			t.Errorf("%v after %v", got, took)
		}
		if n := x.count("RecordLifecycleActionHeartbeat"); n > 16 {
			t.Errorf("%d heartbeats", n)
		}
		if x.trail.count("launching instance abandoned") != 1 || x.trail.count("minion="+instance(1)) != 1 ||
			x.trail.count("within the hook's timeout of 30m0s") != 1 {
			t.Errorf("trail:\n%s", x.trail.text.String())
		}
		if x.hooks.Waiting() != 0 {
			t.Error("it is tended still")
		}
	})
}

// After the last attempt an instance is abandoned, and not before.
func TestLaunchHookIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.apply(t, append([]fleet.Change{added, bound}, failed(0, "j1", 1)...)...)
		x.hooks.Tend(waiting, Minions)
		time.Sleep(10 * time.Minute)
		if got := x.results(); len(got) != 0 {
			t.Errorf("after the first attempt: %v", got)
		}
		x.apply(t, failed(2, "j2", 2)...)
		time.Sleep(checkEvery)
		synctest.Wait()
		if got := fmt.Sprint(x.results()); got != "[ABANDON]" || x.trail.count("2 of 2 attempts") != 1 {
			t.Errorf("after the last: %v\n%s", got, x.trail.text.String())
		}
	})
}

// Just before an instance is abandoned its state is asked for: one that AutoScaling does
// not hold, or that is on its way into the warm pool, is left alone.
func TestNotAbandoned(t *testing.T) {
	for state, says := range map[string]string{"InService": "already completed", "Warmed:Stopped": "already completed",
		"Warmed:Pending:Wait": "of the warm pool not abandoned", "": "already completed"} {
		t.Run(state, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newKeeper(t)
				defer x.stop()
				x.set(func() {
					delete(x.groups["web"], instance(1))
					x.pool = map[string]string{instance(1): state}
				})
				x.apply(t, append(append([]fleet.Change{added, bound}, failed(0, "j1", 1)...),
					failed(2, "j2", 2)...)...)
				x.hooks.Tend(waiting, Minions)
				time.Sleep(time.Hour)
				synctest.Wait()
				if got := x.results(); len(got) != 0 || x.hooks.Waiting() != 0 || x.log.count(says) != 1 {
					t.Errorf("%v, %d wait\n%s", got, x.hooks.Waiting(), x.log.text.String())
				}
			})
		})
	}
}

// A terminating minion goes on at once: its row keeps it out.
func TestTerminateHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.apply(t, added, fleet.Retire{InstanceID: instance(1), HookName: downHook})
		x.hooks.Tend(leaving, Minions)
		time.Sleep(time.Second)
		synctest.Wait()
		calls := x.of("CompleteLifecycleAction")
		if len(calls) != 1 || calls[0].form.Get("LifecycleActionResult") != goOn ||
			calls[0].form.Get("LifecycleHookName") != downHook {
			t.Fatalf("%+v", calls)
		}
		if x.hooks.Waiting() != 0 || x.count("RecordLifecycleActionHeartbeat") != 0 {
			t.Errorf("%d wait, %d heartbeats", x.hooks.Waiting(), x.count("RecordLifecycleActionHeartbeat"))
		}
	})
}

// TestForeignHooks: a hook whose name is not configured is neither ended nor extended,
// by whatever way it is heard of.
func TestForeignHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.apply(t, added, bound, claimed, done, fleet.Retire{InstanceID: instance(3)})
		x.hooks.Tend(Message{Kind: Launched, InstanceID: instance(1), Group: "web",
			Hook: "ecs-managed-draining-termination-hook"}, Minions)
		x.hooks.Tend(Message{Kind: Ended, InstanceID: instance(3), Group: "web", Hook: "foreign"}, Minions)
		time.Sleep(2 * time.Hour)
		if len(x.calls) != 0 || x.hooks.Waiting() != 0 {
			t.Errorf("%+v, %d wait", x.calls, x.hooks.Waiting())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "q"})
		for n, event := range []string{"LAUNCHING", "TERMINATING"} {
			body := message(event, instance(n), "web", time.Now())
			x.send(strings.NewReplacer(upHook, "foreign", downHook, "foreign").Replace(body))
		}
		x.send(strings.ReplaceAll(string(fixture(t, "eventbridge-hook-into-pool.json")), downHook, "foreign"))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s := x.reader.Stats(); s.Ignored != 3 || s.Applied != 0 || len(x.left()) != 0 {
			t.Errorf("%+v, %d left", s, len(x.left()))
		}
		if n := x.count("CompleteLifecycleAction") + x.count("RecordLifecycleActionHeartbeat"); n != 0 ||
			x.hooks.Waiting() != 0 {
			t.Errorf("%d calls, %d wait", n, x.hooks.Waiting())
		}
		x.stop()
	})
}

// TestHookIsNeverEndedUnrecorded: without the row, or with one that says otherwise,
// nothing is ended.
func TestHookIsNeverEndedUnrecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		x.hooks.Tend(leaving, Minions)
		x.hooks.Tend(waiting, Minions)
		time.Sleep(time.Hour)
		x.apply(t, added)
		time.Sleep(time.Hour)
		x.stop()
		if n := len(x.results()); n != 0 {
			t.Errorf("%d were ended", n)
		}
	})
}

// What AutoScaling answers to the end of a hook. That there is no such action is
// believed only if the instance no longer waits.
func TestHookAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		code    string
		times   int
		state   string // of the instance
		calls   int    // that were made within five minutes, the SDK's own tries included
		waiting int
		says    string
	}{
		"over already":            {"ValidationError", 1, "InService", 1, 0, "lifecycle hook already completed"},
		"over, and no member":     {"ValidationError", 1, "", 1, 0, "lifecycle hook already completed"},
		"said to be over, is not": {"ValidationError", 3, "Pending:Wait", 4, 0, "lifecycle hook completed"},
		"never over": {"ValidationError", 1000, "Pending:Wait", 5, 1,
			"but the instance stands in Pending:Wait"},
		"throttled once":  {"Throttling", 1, "Pending:Wait", 2, 0, "lifecycle hook completed"},
		"fails for a bit": {"InternalFailure", 7, "Pending:Wait", 8, 0, "lifecycle hook completed"},
		"denied":          {"AccessDenied", 1000, "Pending:Wait", 5, 1, "lacks the permission"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newKeeper(t)
				left := c.times
				x.set(func() {
					x.groups["web"][instance(1)] = c.state
					x.fail = func(call fakeCall) string {
						if call.action != "CompleteLifecycleAction" {
							return ""
						}
						if left--; left >= 0 {
							return c.code
						}
						return ""
					}
				})
				x.apply(t, added, bound, claimed, done)
				x.hooks.Tend(waiting, Minions)
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				if n := x.count("CompleteLifecycleAction"); n != c.calls || x.hooks.Waiting() != c.waiting ||
					x.log.count(c.says) != 1 {
					t.Errorf("%d calls, %d wait\n%s", n, x.hooks.Waiting(), x.log.text.String())
				}
				if strings.HasPrefix(name, "over") && x.log.count("level=WARN") != 0 {
					t.Errorf("it is no error:\n%s", x.log.text.String())
				}
				x.stop()
			})
		})
	}
}

// TestTerminatingHookSaidToBeOver: AutoScaling answers that there is no active lifecycle
// action while the instance still stands in Terminating:Wait. The hook is ended again
// until AutoScaling takes it, or no longer lets the instance wait.
func TestTerminatingHookSaidToBeOver(t *testing.T) {
	for name, c := range map[string]struct {
		refusals, calls int
		goes            bool // the instance, after 20 minutes
	}{
		"taken in the end": {3, 4, false},
		"gone by itself":   {1000, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newKeeper(t)
				defer x.stop()
				left := c.refusals
				x.set(func() {
					x.groups["web"][instance(1)] = "Terminating:Wait"
					x.fail = func(call fakeCall) string {
						if call.action != "CompleteLifecycleAction" {
							return ""
						}
						if left--; left >= 0 {
							return "ValidationError"
						}
						return ""
					}
				})
				x.apply(t, added, fleet.Retire{InstanceID: instance(1), HookName: downHook})
				x.hooks.Tend(leaving, Minions)
				time.Sleep(20 * time.Minute)
				synctest.Wait()
				if c.goes {
					if n := x.hooks.Waiting(); n != 1 {
						t.Errorf("%d wait while the instance stands in Terminating:Wait", n)
					}
					x.set(func() { delete(x.groups["web"], instance(1)) })
					time.Sleep(20 * time.Minute)
					synctest.Wait()
				}
				if n := x.count("CompleteLifecycleAction"); x.hooks.Waiting() != 0 || c.calls > 0 && n != c.calls {
					t.Errorf("%d calls, %d wait\n%s", n, x.hooks.Waiting(), x.log.text.String())
				}
			})
		})
	}
}

// A call that hangs, for one instance, keeps no other waiting for longer than itself.
func TestHookThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.set(func() {
			x.fail = func(call fakeCall) string {
				if call.action == "CompleteLifecycleAction" && call.form.Get("InstanceId") == instance(1) {
					time.Sleep(completeWithin + time.Millisecond)
				}
				return ""
			}
		})
		for n := 1; n < 20; n++ {
			x.apply(t, fleet.Retire{InstanceID: instance(n)})
			x.hooks.Tend(Message{Kind: Ended, InstanceID: instance(n), Group: "web", Hook: downHook}, Minions)
		}
		time.Sleep(completeWithin + time.Second)
		synctest.Wait()
		if n := x.hooks.Waiting(); n != 1 {
			t.Errorf("%d wait while one hangs", n)
		}
	})
}

// A bridge that stops ends the hook of what it has just recorded, on a context
// that is not the one that was cancelled, and is bounded.
func TestHookIsEndedWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		x.apply(t, added, bound, claimed)
		x.hooks.Tend(waiting, Minions)
		time.Sleep(checkEvery / 2)
		x.apply(t, done)
		begun := time.Now()
		x.stop()
		calls := x.of("CompleteLifecycleAction")
		if len(calls) != 1 || !calls[0].bounds || time.Since(begun) > completeWithin {
			t.Errorf("%+v in %v", calls, time.Since(begun))
		}
	})
}

// The reader ends at once the hook of an instance on its way into the warm pool;
// if that fails, the message comes again. It is no termination.
func TestParkedGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "q"})
		const id = "i-1234567890abcdef0"
		if _, err := x.store.Apply(t.Context(), []fleet.Change{fleet.Add{InstanceID: id}}); err != nil {
			t.Fatal(err)
		}
		x.set(func() {
			x.pool = map[string]string{id: "Warmed:Pending:Wait"}
			x.fail = failing("CompleteLifecycleAction", "ValidationError")
		})
		x.send(string(fixture(t, "eventbridge-hook-into-pool.json")))
		time.Sleep(visible / 2)
		if s := x.reader.Stats(); s.Transient != 1 || len(x.left()) != 1 {
			t.Errorf("%+v", s)
		}
		x.set(func() { x.fail = nil })
		time.Sleep(visible)
		synctest.Wait()
		if n := x.count("CompleteLifecycleAction"); n != 2 || len(x.left()) != 0 ||
			statusOf(t, x.store, id) != fleet.Launch {
			t.Errorf("%d calls, %d messages left, row says %q", n, len(x.left()), statusOf(t, x.store, id))
		}
		x.stop()
	})
}

// From message to end: the reader hands hooks on, once the row is there.
func TestHookFromItsMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "q"})
		x.send(message("LAUNCHING", instance(1), "web", time.Now()))
		x.send(message("LAUNCHING", instance(2), "web", time.Now()))
		x.send(message("TERMINATING", instance(2), "web", time.Now()))
		time.Sleep(time.Second)
		synctest.Wait()
		for n, status := range map[int]fleet.Status{1: fleet.Launch, 2: fleet.Terminate} {
			if row, err := x.store.Minion(t.Context(), instance(n)); err != nil || row.HookName == "" ||
				row.Status != status {
				t.Errorf("%+v, %v", row, err)
			}
		}
		if x.hooks.Waiting() != 3 {
			t.Errorf("%d hooks are tended", x.hooks.Waiting())
		}
		x.stop()
	})
}
