package queue

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// TestNextOfHook lists, for every kind of row, what a hook then does.
func TestNextOfHook(t *testing.T) {
	launching, ending := Message{Kind: Launched}, Message{Kind: Ended}
	for name, c := range map[string]struct {
		of       Message
		state    string // of fleettest.States
		keyGone  bool
		attempts int
		waited   time.Duration
		want     step
	}{
		"no row":                 {launching, "absent", false, 3, 0, stay},
		"has not knocked":        {launching, "hooked", false, 3, time.Hour, stay},
		"accepted":               {launching, "bound", false, 3, 0, beat},
		"highstate runs":         {launching, "claimed", false, 3, 0, beat},
		"highstate was busy":     {launching, "busy", false, 3, 0, beat},
		"first attempt failed":   {launching, "failed", false, 3, 0, beat},
		"last attempt failed":    {launching, "failed", false, 1, 0, abandon},
		"last job was lost":      {launching, "vanished", false, 1, 0, abandon},
		"second attempt runs":    {launching, "second", false, 2, 0, beat},
		"highstate succeeded":    {launching, "done", false, 3, 0, proceed},
		"asked for again":        {launching, "again", false, 3, 0, beat},
		"adopted":                {launching, "adopted", false, 3, 0, proceed},
		"terminated meanwhile":   {launching, "retired", false, 3, 0, drop},
		"no highstates: waits":   {launching, "hooked", false, 0, 0, stay},
		"no highstates: goes on": {launching, "bound", false, 0, 0, proceed},
		"too long":               {launching, "claimed", false, 3, tendFor + 1, drop},
		"not recorded":           {ending, "absent", true, 3, 0, stay},
		"recorded as launched":   {ending, "done", true, 3, time.Hour, stay},
		"key is there":           {ending, "retired", false, 3, 0, beat},
		"key is gone":            {ending, "retired", true, 3, 0, proceed},
		"key stays":              {ending, "retired", false, 3, keyWithin, proceed},
		"never seen":             {ending, "retired-unknown", true, 3, 0, proceed},
	} {
		rows := fleettest.Model{}
		tried := false
		for _, s := range fleettest.States() {
			if s.Name == c.state {
				rows.Apply(s.Changes("i")...)
				tried = true
			}
		}
		h := &Hooks{cfg: Config{Attempts: c.attempts}}
		w := &wait{Message: c.of, begun: time.Now().Add(-c.waited)}
		if got := h.next(w, rows["i"], c.keyGone); got != c.want || !tried {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// keeper is Hooks at work over a real store and a fake AWS.
type keeper struct {
	*fakeAWS
	store fleet.Store
	hooks *Hooks
	log   *lines
	gone  atomic.Bool // the key, from this master
	stop  func()
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	x := &keeper{fakeAWS: &fakeAWS{}, store: newStore(t), log: &lines{}}
	var err error
	x.hooks, err = NewHooks(Config{Attempts: 2}, x.store, x.autoscaling(), func(id string) (bool, error) {
		if id != instance(1) {
			t.Errorf("asked after the key of %q", id)
		}
		return x.gone.Load(), nil
	}, x.log.logger())
	if err != nil {
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

// results gives how hooks were ended.
func (x *keeper) results() (all []string) {
	for _, c := range x.of("CompleteLifecycleAction") {
		all = append(all, c.form.Get("LifecycleActionResult"))
	}
	return all
}

var (
	added   = fleet.Add{InstanceID: instance(1), Group: "web", HookName: "up"}
	bound   = fleet.Bind{InstanceID: instance(1), KeySHA256: "k", PublicKey: "p"}
	claimed = fleet.Claim{InstanceID: instance(1), Owner: "m", JID: "j1", Attempt: 1}
	done    = fleet.Finish{InstanceID: instance(1), JID: "j1", Outcome: fleet.Succeeded}
	waiting = Message{Kind: Launched, InstanceID: instance(1), Group: "web", Hook: "up"}
	leaving = Message{Kind: Ended, InstanceID: instance(1), Group: "web", Hook: "down"}
)

// A launching instance waits for its highstate, as long as that takes.
func TestLaunchHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.apply(t, added)
		x.hooks.Tend(waiting)
		time.Sleep(time.Hour)
		if len(x.calls) != 0 {
			t.Errorf("%d calls for one that has not knocked", len(x.calls))
		}
		x.apply(t, bound, claimed)
		time.Sleep(time.Hour)
		if n := x.count("RecordLifecycleActionHeartbeat"); n < 26 || n > 30 || len(x.results()) != 0 {
			t.Errorf("%d heartbeats in an hour, ended with %v", n, x.results())
		}
		x.apply(t, done)
		time.Sleep(lookEvery)
		synctest.Wait()
		calls := x.of("CompleteLifecycleAction")
		if len(calls) != 1 || !calls[0].bounds || x.hooks.Waiting() != 0 {
			t.Fatalf("%+v, %d wait", calls, x.hooks.Waiting())
		}
		for key, want := range map[string]string{"AutoScalingGroupName": "web", "LifecycleHookName": "up", "InstanceId": instance(1),
			"LifecycleActionResult": "CONTINUE", "LifecycleActionToken": ""} {
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

// After the last attempt an instance is given up, and not before.
func TestLaunchHookIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		defer x.stop()
		x.apply(t, added, bound, claimed, fleet.Finish{InstanceID: instance(1), JID: "j1", Outcome: fleet.Erred, Retcode: 2})
		x.hooks.Tend(waiting)
		time.Sleep(10 * time.Minute)
		if got := x.results(); len(got) != 0 {
			t.Errorf("after the first attempt: %v", got)
		}
		x.apply(t, fleet.Claim{InstanceID: instance(1), From: 2, Owner: "m", JID: "j2", Attempt: 2},
			fleet.Finish{InstanceID: instance(1), JID: "j2", Outcome: fleet.Erred, Retcode: 2})
		time.Sleep(lookEvery)
		synctest.Wait()
		if got := fmt.Sprint(x.results()); got != "[ABANDON]" {
			t.Errorf("after the last: %v", got)
		}
	})
}

// A terminating instance waits for its key to go from this master; not for ever.
func TestTerminateHook(t *testing.T) {
	for name, c := range map[string]struct {
		gone time.Duration
		ends time.Duration
	}{
		"key goes":  {time.Minute, time.Minute + lookEvery},
		"key stays": {24 * time.Hour, keyWithin + lookEvery},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newKeeper(t)
				defer x.stop()
				x.apply(t, added, fleet.Retire{InstanceID: instance(1), HookName: "down"})
				begun := time.Now()
				x.hooks.Tend(leaving)
				key := time.AfterFunc(c.gone, func() { x.gone.Store(true) })
				defer key.Stop()
				time.Sleep(time.Hour)
				calls := x.of("CompleteLifecycleAction")
				if len(calls) != 1 || calls[0].form.Get("LifecycleActionResult") != "CONTINUE" || calls[0].form.Get("LifecycleHookName") != "down" {
					t.Fatalf("%+v", calls)
				}
				if took := calls[0].at.Sub(begun); took > c.ends {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestHookIsNeverEndedUnrecorded: without the row, or with one that says
// otherwise, nothing is ended.
func TestHookIsNeverEndedUnrecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		x.gone.Store(true)
		x.hooks.Tend(leaving)
		x.hooks.Tend(waiting)
		time.Sleep(time.Hour)
		x.apply(t, added)
		time.Sleep(time.Hour)
		x.stop()
		if len(x.calls) != 0 {
			t.Errorf("%+v", x.calls)
		}
	})
}

// What AutoScaling answers to the end of a hook.
func TestHookAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		code    string
		times   int
		calls   int // that were made, the SDK's own tries included
		waiting int
		says    string
	}{
		"over already":    {"ValidationError", 1, 1, 0, "lifecycle hook was over"},
		"throttled once":  {"Throttling", 1, 2, 0, "lifecycle hook ended"},
		"fails for a bit": {"InternalFailure", 7, 8, 0, "lifecycle hook ended"},
		"denied":          {"AccessDenied", 1000, 5, 1, "lacks the permission"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newKeeper(t)
				left := c.times
				x.set(func() {
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
				x.hooks.Tend(waiting)
				time.Sleep(4*lookEvery + time.Second)
				synctest.Wait()
				if n := x.count("CompleteLifecycleAction"); n != c.calls || x.hooks.Waiting() != c.waiting || x.log.count(c.says) == 0 {
					t.Errorf("%d calls, %d wait\n%s", n, x.hooks.Waiting(), x.log.text.String())
				}
				if name == "over already" && x.log.count("level=WARN") != 0 {
					t.Errorf("it is no error:\n%s", x.log.text.String())
				}
				x.stop()
			})
		})
	}
}

// A bridge that stops ends the hook of what it has just recorded, on a context
// that is not the one that was cancelled, and is bounded.
func TestHookIsEndedWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newKeeper(t)
		x.apply(t, added, bound, claimed)
		x.hooks.Tend(waiting)
		time.Sleep(lookEvery / 2)
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
		x.set(func() { x.fail = failing("CompleteLifecycleAction", "AccessDenied") })
		x.send(string(fixture(t, "eventbridge-hook-into-pool.json")))
		time.Sleep(visible / 2)
		if s := x.reader.Stats(); s.Transient != 1 || len(x.left()) != 1 {
			t.Errorf("%+v", s)
		}
		x.set(func() { x.fail = nil })
		time.Sleep(visible)
		synctest.Wait()
		if n := x.count("CompleteLifecycleAction"); n != 2 || len(x.left()) != 0 || statusOf(t, x.store, id) != fleet.Launch {
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
			if row, err := x.store.Minion(t.Context(), instance(n)); err != nil || row.HookName != "hook" || row.Status != status {
				t.Errorf("%+v, %v", row, err)
			}
		}
		if x.hooks.Waiting() != 2 {
			t.Errorf("%d hooks are tended", x.hooks.Waiting())
		}
		x.stop()
	})
}
