package autoscaling

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// place is a reconciler over a real store and a fake AWS.
type place struct {
	*fakeAWS
	store   fleet.Store
	rec     *Reconciler
	hooks   *Hooks
	log     *lines
	changed []string
}

// newPlace makes a fleet of n instances in service of which the store knows.
func newPlace(t *testing.T, n int, gate fleettest.Plan) *place {
	t.Helper()
	x := &place{fakeAWS: &fakeAWS{instances: map[string]fakeInstance{},
		groups: map[string]map[string]string{"web": {}, "salt": {}}}, log: &lines{}}
	x.store = newStore(t)
	if gate != nil {
		x.store = fleettest.NewFaulty(x.store, gate)
	}
	x.join(t, "web", 0, n)
	x.rec, x.hooks = x.reconciler(t)
	return x
}

func (x *place) reconciler(t *testing.T) (*Reconciler, *Hooks) {
	t.Helper()
	cfg := Config{Groups: webAndMasters, Hooks: ourNames, Attempts: 3,
		Changed: func(rows []fleet.Minion) { x.changed = append(x.changed, instancesOf(rows)...) }}
	hooks, err := NewHooks(cfg, x.store, x.autoscaling(), x.log.logger())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := NewReconciler(cfg, x.store, x.autoscaling(), x.ec2(), hooks, x.log.logger())
	if err != nil {
		t.Fatal(err)
	}
	return rec, hooks
}

// join adds instances to AWS and to the store.
func (x *place) join(t *testing.T, group string, from, to int) {
	t.Helper()
	var changes []fleet.Change
	for i := from; i < to; i++ {
		x.instances[instance(i)] = fakeInstance{"running", time.Now().Add(time.Hour)}
		x.groups[group][instance(i)] = "InService"
		changes = append(changes, fleet.Add{InstanceID: instance(i), Group: group})
	}
	if _, err := x.store.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
}

// end terminates instances in AWS, and no message reports it.
func (x *place) end(from, to int) {
	for i := from; i < to; i++ {
		x.instances[instance(i)] = fakeInstance{"terminated", time.Now()}
		for _, members := range x.groups {
			delete(members, instance(i))
		}
	}
}

// pass passes so many times, without errors.
func (x *place) pass(t *testing.T, times int) {
	t.Helper()
	for range times {
		if err := x.rec.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func (x *place) terminated(t *testing.T) (ids []string) {
	t.Helper()
	if err := x.store.ByStatus(t.Context(), fleet.Terminate, "", func(page []fleet.Minion) error {
		for _, row := range page {
			ids = append(ids, row.InstanceID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

// TestG6LostMessages: a launch and a termination that no message reported are found.
func TestG6LostMessages(t *testing.T) {
	x := newPlace(t, 3, nil)
	x.pageSize = 1
	x.pass(t, 3)
	if len(x.changed) != 0 || len(x.terminated(t)) != 0 {
		t.Errorf("nothing happened: changed %v, terminated %v", x.changed, x.terminated(t))
	}
	since, err := x.store.Since(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x.groups["web"][instance(7)], x.instances[instance(7)] = "InService", fakeInstance{"running", since.Add(time.Hour)}
	x.groups["salt"][instance(8)], x.instances[instance(8)] = "InService",
		fakeInstance{"running", since.Add(-time.Hour)}
	x.end(0, 1)
	x.pass(t, 1)
	young, errYoung := x.store.Minion(t.Context(), instance(7))
	old, errOld := x.store.Minion(t.Context(), instance(8))
	if errYoung != nil || errOld != nil || young.Adopted() || !old.Adopted() || young.Group != "web" ||
		old.Group != "salt" {
		t.Errorf("%+v, %v; %+v, %v", young, errYoung, old, errOld)
	}
	if gone := x.terminated(t); len(gone) != 0 {
		t.Errorf("%v retired at EC2's first word", gone)
	}
	x.pass(t, 1)
	row, err := x.store.Minion(t.Context(), instance(0))
	if err != nil || row.Status != fleet.Terminate || !row.Inferred {
		t.Errorf("%+v, %v", row, err)
	}
	if want := []string{instance(0), instance(7), instance(8)}; !slices.Equal(slices.Sorted(slices.Values(x.changed)),
		want) {
		t.Errorf("changed %v, want %v", x.changed, want)
	}
}

// A master that ended unheard goes from both tables.
func TestMasterEndsUnheard(t *testing.T) {
	x := newPlace(t, 1, nil)
	x.join(t, "salt", 1, 3)
	for i := 1; i < 3; i++ {
		if _, err := x.store.Beat(t.Context(), fleet.Beat{InstanceID: instance(i), IPAddr: "127.0.0.1"}); err != nil {
			t.Fatal(err)
		}
	}
	x.end(2, 3)
	x.pass(t, 2)
	masters, err := x.store.Masters(t.Context())
	if err != nil || len(masters) != 2 || masters[0].Status != fleet.Launch || masters[1].Status != fleet.Terminate {
		t.Errorf("%+v, %v", masters, err)
	}
	if gone := x.terminated(t); !slices.Equal(gone, []string{instance(2)}) {
		t.Errorf("terminated %v", gone)
	}
}

// TestG9NothingIsEverInferredFrom what is no word: errors, empty answers, another
// region, instances that are unknown, detached, stopped or on standby.
func TestG9NothingIsEverInferredFrom(t *testing.T) {
	const n = 40
	for name, c := range map[string]struct {
		befall func(x *place)
		fails  bool
		says   string // in the log
	}{
		"AutoScaling fails": {func(x *place) {
			x.end(0, n)
			x.fail = failing("DescribeAutoScalingGroups",
				"AccessDenied")
		}, true, "the instance's role lacks the permission"},
		"AutoScaling is down": {func(x *place) {
			x.end(0, n)
			x.fail = failing("DescribeAutoScalingGroups",
				"ServiceUnavailable")
		}, true, "not compared"},
		"EC2 fails": {func(x *place) {
			x.end(0, n)
			x.fail = failing("DescribeInstances",
				"UnauthorizedOperation")
		}, true, "the instance's role lacks the permission"},
		"EC2 fails: expired": {func(x *place) { x.end(0, n); x.fail = failing("DescribeInstances", "RequestExpired") },
			true, "credentials have expired"},
		"EC2 does not know them": {func(x *place) {
			x.end(0, n)
			clear(x.instances)
		}, false, "EC2 does not know instances of the fleet"},
		"groups answer empty": {func(x *place) { x.groups["web"] = nil }, false, ""},
		"another region": {func(x *place) {
			clear(x.groups)
			clear(x.instances)
		}, false, "AutoScaling does not know groups"},
		"groups deleted, instances kept": {func(x *place) { clear(x.groups) }, false,
			"AutoScaling does not know groups"},
		"all stopped": {func(x *place) {
			x.groups["web"] = nil
			for id, i := range x.instances {
				x.instances[id] = fakeInstance{"stopped", i.launched}
			}
		}, false, ""},
		"all on standby": {func(x *place) {
			for id := range x.groups["web"] {
				x.groups["web"][id] = "Standby"
			}
		}, false, ""},
		"EC2 says nothing of state": {func(x *place) {
			x.groups["web"] = nil
			for id, i := range x.instances {
				x.instances[id] = fakeInstance{"", i.launched}
			}
		}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // the SDK's retries take time
				x := newPlace(t, n, nil)
				x.pass(t, 1)
				c.befall(x)
				for range 4 {
					if err := x.rec.Pass(t.Context()); (err != nil) != c.fails ||
						(x.rec.Report().Error != "") != c.fails {
						t.Errorf("%v; the report says %q", err, x.rec.Report().Error)
					}
				}
				if gone := x.terminated(t); len(gone) != 0 || len(x.rec.Held()) != 0 {
					t.Errorf("%d are terminated, %d held", len(gone), len(x.rec.Held()))
				}
				if c.says != "" && x.log.count(c.says) != 1 {
					t.Errorf("%q stands %d times in\n%s", c.says, x.log.count(c.says), x.log.text.String())
				}
			})
		})
	}
}

// An error between two words takes neither back nor adds one.
func TestErrorBetweenPasses(t *testing.T) {
	x := newPlace(t, 3, nil)
	x.end(0, 1)
	x.pass(t, 1)
	x.fail = failing("DescribeInstances", "UnauthorizedOperation")
	for range 3 {
		if err := x.rec.Pass(t.Context()); err == nil {
			t.Fatal("no error")
		}
	}
	if gone := x.terminated(t); len(gone) != 0 {
		t.Errorf("terminated %v", gone)
	}
	x.fail = nil
	x.pass(t, 1)
	if gone := x.terminated(t); !slices.Equal(gone, []string{instance(0)}) {
		t.Errorf("terminated %v", gone)
	}
}

// TestHeld: too many at once wait, with a warning, until they are released. Another
// master holds them too, and lets go of what is released here.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newPlace(t, 60, nil)
		other, _ := x.reconciler(t)
		x.end(0, 11)
		x.pass(t, 2)
		if held := x.rec.Held(); len(held) != 11 || len(x.terminated(t)) != 0 || x.log.count("too many at once") != 1 {
			t.Errorf("held %v, terminated %v\n%s", held, x.terminated(t), x.log.text.String())
		}
		time.Sleep(2 * time.Hour) // waiting is no release
		x.pass(t, 3)
		if len(x.rec.Held()) != 11 || len(x.terminated(t)) != 0 || x.log.count("too many at once") != 1 {
			t.Errorf("held %v, terminated %v", x.rec.Held(), x.terminated(t))
		}
		for range 2 {
			if err := other.Pass(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(other.Held()) != 11 {
			t.Errorf("the other master holds %v", other.Held())
		}
		released, err := x.rec.Release(t.Context())
		if err != nil || len(released) != 11 || len(x.terminated(t)) != 11 || len(x.rec.Held()) != 0 {
			t.Errorf("released %v, %v; terminated %v", released, err, x.terminated(t))
		}
		if err := other.Pass(t.Context()); err != nil || len(other.Held()) != 0 {
			t.Errorf("the other master holds %v, %v", other.Held(), err)
		}
		// A release does not use the hour's allowance up.
		x.end(11, 14)
		x.pass(t, 2)
		if len(x.terminated(t)) != 14 {
			t.Errorf("terminated %v", x.terminated(t))
		}
	})
}

// One termination limit for all masters and over restarts: what one has inferred counts for
// the other, for an hour.
func TestTerminationLimitIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newPlace(t, 60, nil)
		x.end(0, 8)
		x.pass(t, 2)
		x.rec, x.hooks = x.reconciler(t)
		x.end(8, 16)
		x.pass(t, 2)
		if len(x.terminated(t)) != 8 || len(x.rec.Held()) != 8 {
			t.Errorf("terminated %v, held %v", x.terminated(t), x.rec.Held())
		}
	})
}

// The store fails at any call: the pass ends with an error, and a later one does
// what it did not.
func TestReconcileStoreFails(t *testing.T) {
	for n := range 12 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			armed, calls := false, 0
			var mu sync.Mutex
			x := newPlace(t, 5, func(c fleettest.Call) (f fleettest.Fault) {
				mu.Lock()
				defer mu.Unlock()
				if armed {
					if calls == n {
						f.Before = fmt.Errorf("injected: %w", fleet.ErrUnavailable)
					}
					calls++
				}
				return f
			})
			x.end(0, 2)
			x.groups["web"][instance(9)], x.instances[instance(9)] = "InService",
				fakeInstance{"running", time.Now().Add(time.Hour)}
			mu.Lock()
			armed = true
			mu.Unlock()
			failed := 0
			for range 4 {
				if err := x.rec.Pass(t.Context()); err != nil {
					failed++
				}
			}
			if failed != 1 {
				t.Errorf("%d passes failed", failed)
			}
			if want := []string{instance(0), instance(1)}; !slices.Equal(x.terminated(t), want) ||
				statusOf(t, x.store, instance(9)) != fleet.Launch {
				t.Errorf("terminated %v, launched %q", x.terminated(t), statusOf(t, x.store, instance(9)))
			}
		})
	}
}

// The first pass waits for the queues; then one every few minutes, each at its
// own time; failures come sooner. What is always the same is reported once.
func TestReconcileRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newPlace(t, 3, nil)
		ctx, cancel := context.WithCancel(t.Context())
		drained, ended := make(chan struct{}), make(chan error, 1)
		go func() { ended <- x.rec.Run(ctx, drained) }()
		time.Sleep(time.Minute)
		if n := x.count("DescribeAutoScalingGroups"); n != 0 {
			t.Errorf("%d calls before the queues are read", n)
		}
		close(drained)
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		calls := x.of("DescribeAutoScalingGroups")
		if len(calls) < 110 || len(calls) > 130 || x.count("DescribeInstances") != 0 {
			t.Errorf("%d and %d calls in ten hours", len(calls), x.count("DescribeInstances"))
		}
		gaps := map[time.Duration]bool{}
		for i := 1; i < len(calls); i++ {
			gap := calls[i].at.Sub(calls[i-1].at)
			gaps[gap] = true
			if gap < 4*time.Minute || gap > 6*time.Minute {
				t.Errorf("%v between passes", gap)
			}
		}
		if len(gaps) < 50 {
			t.Errorf("%d different gaps", len(gaps))
		}
		if x.log.count("\n") != 1 {
			t.Errorf("log:\n%s", x.log.text.String())
		}
		x.set(func() { x.fail = failing("DescribeAutoScalingGroups", "AccessDenied") })
		time.Sleep(time.Hour)
		if n := x.count("DescribeAutoScalingGroups") - len(calls); n < 60 || n > 130 ||
			x.log.count("AccessDenied") != 1 {
			t.Errorf("%d calls in an hour of failures\n%s", n, x.log.text.String())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// EC2's second word on an instance is asked for within a minute or so, not after
// the usual pause; what the termination limit holds hurries nobody.
func TestSecondWordComesSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newPlace(t, 60, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- x.rec.Run(ctx, nil) }()
		synctest.Wait()
		x.set(func() { x.end(0, 1) })
		time.Sleep(6*time.Minute + secondAfter*6/5 + time.Second)
		if gone := x.terminated(t); !slices.Equal(gone, []string{instance(0)}) {
			t.Errorf("terminated %v", gone)
		}
		x.set(func() { x.end(1, 30) })
		time.Sleep(15 * time.Minute)
		if len(x.rec.Held()) != 29 {
			t.Fatalf("held %v", x.rec.Held())
		}
		before := x.count("DescribeAutoScalingGroups")
		time.Sleep(time.Hour)
		if n := x.count("DescribeAutoScalingGroups") - before; n < 10 || n > 15 {
			t.Errorf("%d passes in an hour with some held", n)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A backlog without end does not keep the first pass from coming.
func TestReconcileDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newPlace(t, 1, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- x.rec.Run(ctx, make(chan struct{})) }()
		time.Sleep(drainWithin + time.Second)
		if x.rec.Report().Passed.IsZero() {
			t.Error("no pass")
		}
		cancel()
		<-ended
	})
}

// A hook whose message was lost, or whose master is gone, is taken up by the next that
// looks: by the names that are ours, whatever the row says of it.
func TestHookIsTakenUp(t *testing.T) {
	x := newPlace(t, 3, nil)
	x.groups["web"][instance(0)] = "Pending:Wait"
	x.groups["web"][instance(1)] = "Terminating:Wait" // the row says LAUNCH: its group said so twice
	x.groups["web"][instance(2)] = "Terminating:Wait"
	// not reported at all
	x.groups["web"][instance(7)], x.instances[instance(7)] = "Pending:Wait",
		fakeInstance{"pending", time.Now().Add(time.Hour)}
	// no group of ours
	x.groups["other"] = map[string]string{instance(8): "Pending:Wait"}
	if _, err := x.store.Apply(t.Context(), []fleet.Change{fleet.Retire{InstanceID: instance(2)}}); err != nil {
		t.Fatal(err)
	}
	x.pass(t, 2)
	for key, want := range map[[2]string]bool{{instance(0), upHook}: true, {instance(7), upHook}: true,
		{instance(2), downHook}: true,
		{instance(1), downHook}: true, {instance(2), "foreign"}: false, {instance(8), upHook}: false} {
		if got := x.hooks.waits[key] != nil; got != want {
			t.Errorf("%v is tended: %v", key, got)
		}
	}
	if got := x.terminated(t); !slices.Equal(got, []string{instance(1), instance(2)}) {
		t.Errorf("terminated: %v", got)
	}
	if n := x.count("DescribeLifecycleHooks"); n != 1 {
		t.Errorf("hooks were asked for %d times", n)
	}
	// A group of which ours is no hook.
	x = newPlace(t, 1, nil)
	x.only("web", fakeHook{"foreign", "LAUNCHING", time.Hour})
	x.groups["web"][instance(0)] = "Pending:Wait"
	x.pass(t, 1)
	if x.hooks.Waiting() != 0 {
		t.Error("a foreign hook is tended")
	}
}

// only gives a group these hooks.
func (f *fakeAWS) only(group string, hooks ...fakeHook) {
	f.set(func() { f.hooks = map[string][]fakeHook{group: hooks} })
}

func TestNewReconcilerRefuses(t *testing.T) {
	x := newPlace(t, 0, nil)
	log := x.log.logger()
	_, noGroup := NewReconciler(Config{}, x.store, x.autoscaling(), x.ec2(), x.hooks, log)
	_, noStore := NewReconciler(Config{Groups: webAndMasters}, nil, x.autoscaling(), x.ec2(), x.hooks, log)
	if noGroup == nil || noStore == nil {
		t.Errorf("%v, %v", noGroup, noStore)
	}
}

// EC2's silence keeps nothing waiting that does not need its word, and leaves what it
// said before as it was.
func TestHooksAreTendedWhileEC2IsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newPlace(t, 60, nil)
		x.end(0, 11)
		x.pass(t, 2)
		x.set(func() {
			x.fail = failing("DescribeInstances", "UnauthorizedOperation")
			x.groups["web"][instance(20)] = "Pending:Wait"
		})
		if err := x.rec.Pass(t.Context()); err == nil || x.hooks.Waiting() != 1 || len(x.rec.Held()) != 11 ||
			len(x.terminated(t)) != 0 {
			t.Errorf("%v; %d hooks are tended, %d held, %d terminated", err, x.hooks.Waiting(), len(x.rec.Held()),
				len(x.terminated(t)))
		}
	})
}

// A master that its group terminates drains, though the hook's message was lost, and is
// tended; its row says LAUNCH until EC2 says that it is gone.
func TestLeavingMasterIsFound(t *testing.T) {
	t.Run("masters:salt", func(t *testing.T) { leavingMasterIsFound(t, webAndMasters) })
	t.Run("salt", func(t *testing.T) { leavingMasterIsFound(t, []Item{{"", "web"}, {"", "salt"}}) })
}

func leavingMasterIsFound(t *testing.T, groups []Item) {
	x := newPlace(t, 1, nil)
	x.rec.cfg.Groups = groups
	x.join(t, "salt", 1, 3)
	for i := 1; i < 3; i++ {
		if _, err := x.store.Beat(t.Context(), fleet.Beat{InstanceID: instance(i), IPAddr: "127.0.0.1"}); err != nil {
			t.Fatal(err)
		}
	}
	x.groups["salt"][instance(1)] = "Terminating:Wait"
	x.pass(t, 2)
	masters, err := x.store.Masters(t.Context())
	if err != nil || len(masters) != 2 || !masters[0].Draining || masters[0].Status != fleet.Launch ||
		masters[1].Draining {
		t.Errorf("%+v, %v", masters, err)
	}
	if w := x.hooks.waits[[2]string{instance(1), downHook}]; w == nil || w.role != Masters {
		t.Errorf("its hook is not tended: %+v", w)
	}
}
