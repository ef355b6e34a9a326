package autoscaling

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"phoenix/bridge/fleet"
)

// TestBelieve is the table of what is believed of a termination that is not taken on
// its message's word.
func TestBelieve(t *testing.T) {
	for name, c := range map[string]struct {
		hook, ec2, state string
		role             Role
		listed           bool
		want             believed
	}{
		"terminated":                     {"", "terminated", "", Minions, true, ends},
		"shutting down":                  {"", "shutting-down", "InService", Minions, true, ends},
		"runs":                           {"", "running", "InService", Minions, true, lives},
		"stopped":                        {"", "stopped", "", Minions, true, lives},
		"runs, and has no row":           {"", "running", "InService", Minions, false, lives},
		"EC2 knows it not":               {"", "", "", Minions, true, unheard},
		"EC2 knows it not, nor do we":    {"", "", "", Minions, false, nobody},
		"held by a hook":                 {downHook, "running", "Terminating:Wait", Minions, true, ends},
		"held by a hook, in the pool":    {downHook, "stopped", "Warmed:Terminating:Wait", Minions, true, ends},
		"its hook was over":              {downHook, "running", "Terminating:Proceed", Minions, true, ends},
		"said to be held, is in service": {downHook, "running", "InService", Minions, true, lives},
		"no hook, though terminating":    {"", "running", "Terminating:Wait", Minions, true, lives},
		"master, held by a hook":         {downHook, "running", "Terminating:Wait", Masters, true, drains},
		"master, gone":                   {downHook, "terminated", "", Masters, true, ends},
		"master, runs":                   {downHook, "running", "InService", Masters, true, lives},
		"master, EC2 knows it not":       {"", "", "", Masters, true, unheard},
	} {
		w := words{instances: map[string]Instance{}, states: map[string]string{instance(1): c.state}}
		if c.ec2 != "" {
			w.instances[instance(1)] = Instance{ID: instance(1), State: types.InstanceStateName(c.ec2)}
		}
		if got := w.believe(Message{Kind: Ended, InstanceID: instance(1), Hook: c.hook}, c.role,
			c.listed); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// fleetOf makes n instances in service, in the store and in AWS.
func (x *rig) fleetOf(t *testing.T, n int) {
	t.Helper()
	var changes []fleet.Change
	x.set(func() {
		x.groups = map[string]map[string]string{"web": {}, "salt": {}}
		for i := range n {
			x.instances[instance(i)] = fakeInstance{"running", time.Now()}
			x.groups["web"][instance(i)] = "InService"
			changes = append(changes, fleet.Add{InstanceID: instance(i), Group: "web"})
		}
	})
	if _, err := x.store.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	x.reader.terminations.resize(n)
}

func (x *rig) ended(t *testing.T) (n int) {
	t.Helper()
	err := x.store.ByStatus(t.Context(), fleet.Terminate, "", func(page []fleet.Minion) error {
		n += len(page)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestForgedStorm: 500 messages that call living instances terminated end no more than
// the termination limit. What is true is done meanwhile, and so is all else; when the hour
// is over, no more end than are forged then.
func TestForgedStorm(t *testing.T) {
	for _, event := range []string{"TERMINATE", "TERMINATING"} {
		for size, most := range map[int]int{500: 25, 0: 10} { // 0: the fleet was never counted
			t.Run(fmt.Sprint(event, size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					x := newRig(t, nil, Item{"", "q"}, webAndMasters...)
					defer func() { x.stop() }()
					const n, gone, fresh = 500, instanceGone, instanceFresh
					x.fleetOf(t, n)
					x.reader.terminations.resize(size)
					x.apply(t, fleet.Add{InstanceID: instance(gone), Group: "web"})
					x.set(func() { x.instances[instance(gone)] = fakeInstance{"terminated", time.Now()} })
					for i := range n {
						x.send(message(event, instance(i), "web", time.Now()))
					}
					x.send(message("TERMINATE", instance(gone), "web", time.Now()),
						message("LAUNCH", instance(fresh), "web", time.Now()))
					time.Sleep(visible / 2)
					synctest.Wait()
					if statusOf(t, x.store, instance(gone)) != fleet.Terminate ||
						statusOf(t, x.store, instance(fresh)) != fleet.Launch {
						t.Errorf("what is true waits for what is forged: %+v", x.reader.Stats())
					}
					time.Sleep(10 * time.Minute)
					synctest.Wait()
					s := x.reader.Stats()
					held, refuted := x.reader.Held()
					if ended := x.ended(t) - 1; ended != most || s.Refuted != int64(n-most) || len(refuted) != n-most ||
						len(held) != 0 || len(x.left()) != 0 {
						t.Errorf("%d of %d ended; %+v; %d refuted, %d held, %d messages left", ended, n, s,
							len(refuted), len(held), len(x.left()))
					}
					if lines := x.log.count("termination not believed"); lines < shown || lines > 2*shown {
						t.Errorf("%d lines", lines)
					}
					if calls := x.count("DescribeInstances"); calls > n*refuteAfter/atOnce+10 {
						t.Errorf("EC2 was asked %d times", calls)
					}
				})
			})
		}
	}
}

const (
	instanceGone  = 1000
	instanceFresh = 1001
)

func (x *rig) apply(t *testing.T, changes ...fleet.Change) {
	t.Helper()
	if _, err := x.store.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
}

// TestTerminationsWhileEC2IsAway: up to the termination limit a message is enough; more
// wait, are reported, and are received again. Launches do not wait for EC2. An operator
// may release them.
func TestTerminationsWhileEC2IsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "q"}, webAndMasters...)
		defer func() { x.stop() }()
		const n = 100
		x.fleetOf(t, n)
		x.set(func() {
			x.fail = func(c fakeCall) string {
				if c.action == "DescribeInstances" {
					time.Sleep(3 * time.Second)
					return "InternalFailure"
				}
				return ""
			}
		})
		for i := range n {
			x.send(message("TERMINATE", instance(i), "web", time.Now()))
		}
		for i := range 20 {
			x.send(message("LAUNCH", instance(n+i), "web", time.Now()))
		}
		time.Sleep(visible)
		for i := range 20 {
			if statusOf(t, x.store, instance(n+i)) != fleet.Launch {
				t.Errorf("launch %d waits for EC2", i)
			}
		}
		time.Sleep(4 * visible)
		held, refuted := x.reader.Held()
		if ended := x.ended(t); ended != limitLeast || len(held) != n-limitLeast || len(refuted) != 0 ||
			len(x.left()) != n-limitLeast {
			t.Errorf("%d ended, %d held, %d refuted, %d messages left", ended, len(held), len(refuted), len(x.left()))
		}
		if lines := x.log.count("messages wait for an answer of AWS"); lines != 1 {
			t.Errorf("%d lines say that EC2 is away", lines)
		}
		if lines := x.log.count("termination held"); lines < 1 || lines > 5 {
			t.Errorf("%d lines say that terminations are held", lines)
		}
		released, err := x.reader.Release(t.Context())
		if err != nil || len(released) != n-limitLeast || x.ended(t) != n {
			t.Errorf("released %d, %v; %d ended", len(released), err, x.ended(t))
		}
		x.set(func() { x.fail = nil })
		time.Sleep(2 * visible)
		if held, _ := x.reader.Held(); len(held) != 0 || len(x.left()) != 0 {
			t.Errorf("%d held, %d messages left", len(held), len(x.left()))
		}
	})
}

// TestHeldUntilEC2Answers: what waited is done, or refuted, when EC2 is back.
func TestHeldUntilEC2Answers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "q"}, webAndMasters...)
		defer func() { x.stop() }()
		x.fleetOf(t, 40)
		x.set(func() {
			x.fail = failing("DescribeInstances", "UnauthorizedOperation")
			for i := range 30 {
				x.instances[instance(i)] = fakeInstance{"terminated", time.Now()}
			}
			delete(x.instances, instance(30)) // ended more than an hour ago
		})
		for i := range 35 {
			x.send(message("TERMINATE", instance(i), "web", time.Now()))
		}
		time.Sleep(5 * visible)
		if held, _ := x.reader.Held(); x.ended(t) != limitLeast || len(held) != 25 {
			t.Errorf("%d ended, %d held", x.ended(t), len(held))
		}
		x.set(func() { x.fail = nil })
		time.Sleep(5 * visible)
		held, refuted := x.reader.Held()
		if x.ended(t) != 30 || len(held) != 1 || held[0] != instance(30) || len(refuted) != 4 {
			t.Errorf("%d ended, held %v, refuted %v", x.ended(t), held, refuted)
		}
	})
}

// TestBigScaleIn: 500 instances that their group terminates, each waiting in a hook: EC2
// calls them running, AutoScaling knows better. All end, and go on.
func TestBigScaleIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "q"}, webAndMasters...)
		defer func() { x.stop() }()
		run := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { run <- x.hooks.Run(ctx) }()
		const n = 500
		x.fleetOf(t, n)
		x.set(func() {
			for i := range n {
				x.groups["web"][instance(i)] = "Terminating:Wait"
			}
		})
		for i := range n {
			x.send(message("TERMINATING", instance(i), "web", time.Now()))
		}
		time.Sleep(5 * time.Minute)
		if ended := x.ended(t); ended != n || x.count("CompleteLifecycleAction") != n || x.hooks.Waiting() != 0 {
			t.Errorf("%d ended, %d went on, %d wait", ended, x.count("CompleteLifecycleAction"), x.hooks.Waiting())
		}
		if _, refuted := x.reader.Held(); len(refuted) != 0 {
			t.Errorf("%d refuted", len(refuted))
		}
		cancel()
		if err := <-run; err != nil {
			t.Error(err)
		}
	})
}

// TestMastersNeedEC2sWord: one forged message ends no master, in neither table, though
// it calls it a minion; nor does it drain one that AutoScaling calls in service.
func TestMastersNeedEC2sWord(t *testing.T) {
	for name, c := range map[string]struct {
		body       string
		ec2, state string
		status     fleet.Status // of both rows in the end
		draining   bool
		alone      bool // its own minion has no row
	}{
		"forged": {message("TERMINATE", instance(1), "salt", time.Now()), "running",
			"InService", fleet.Launch, false, false},
		"forged, as a minion's": {message("TERMINATE", instance(1), "web", time.Now()), "running",
			"InService", fleet.Launch, false, false},
		"forged hook": {message("TERMINATING", instance(1), "salt", time.Now()), "running",
			"InService", fleet.Launch, false, false},
		"forged hook, as a minions": {message("TERMINATING", instance(1), "web", time.Now()), "running",
			"InService", fleet.Launch, false, false},
		"held by its hook": {message("TERMINATING", instance(1), "salt", time.Now()), "running",
			"Terminating:Wait", fleet.Launch, true, false},
		"gone": {message("TERMINATE", instance(1), "salt", time.Now()), "shutting-down",
			"", fleet.Terminate, false, false},
		"forged, as a minion's without a row": {message("TERMINATE", instance(1), "web", time.Now()), "running",
			"InService", fleet.Launch, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newRig(t, nil, Item{"", "q"}, webAndMasters...)
				defer func() { x.stop() }()
				x.set(func() {
					x.groups = map[string]map[string]string{"salt": {instance(1): c.state}}
					x.instances[instance(1)] = fakeInstance{c.ec2, time.Now()}
				})
				minion := c.status
				if c.alone {
					minion = ""
				} else {
					x.apply(t, fleet.Add{InstanceID: instance(1), Group: "salt"})
				}
				if _, err := x.store.Beat(t.Context(),
					fleet.Beat{InstanceID: instance(1), IPAddr: "10.0.0.1"}); err != nil {
					t.Fatal(err)
				}
				x.send(c.body)
				time.Sleep(5 * visible)
				synctest.Wait()
				masters, err := x.store.Masters(t.Context())
				if err != nil || len(masters) != 1 || masters[0].Status != c.status ||
					masters[0].Draining != c.draining || len(x.left()) != 0 {
					t.Errorf("%+v, %v; %d left", masters, err, len(x.left()))
				}
				if got := statusOf(t, x.store, instance(1)); got != minion {
					t.Errorf("its minion's row says %q", got)
				}
				if (x.hooks.Waiting() == 1) != c.draining {
					t.Errorf("%d hooks are tended", x.hooks.Waiting())
				}
			})
		})
	}
}

// TestSpotWarnings: minions leave a master that EC2 may take back, if there is another
// for them; for a minion it is only recorded; another instance is none of ours.
func TestSpotWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "q"}, webAndMasters...)
		defer func() { x.stop() }()
		const master, minion = "i-1234567890abcdef0", "i-0598c7d356eba48d7"
		beat := func(id string) {
			t.Helper()
			if _, err := x.store.Beat(t.Context(),
				fleet.Beat{InstanceID: id, IPAddr: "10.0.0.1", Ready: true}); err != nil {
				t.Fatal(err)
			}
		}
		draining := func() bool {
			t.Helper()
			masters, err := x.store.Masters(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range masters {
				if m.InstanceID == master {
					return m.Draining
				}
			}
			t.Fatal("no row")
			return false
		}
		told := func(file, id string) {
			t.Helper()
			x.send(strings.ReplaceAll(string(fixture(t, file)), master, id))
			time.Sleep(time.Second)
			synctest.Wait()
		}
		beat(master)
		x.apply(t, fleet.Add{InstanceID: minion, Group: "web", MinionID: "web-1"})
		told("eventbridge-spot.json", minion)
		if x.log.count("EC2 may take the instance back") != 1 || x.log.count("minion=web-1") != 1 {
			t.Errorf("of a minion:\n%s", x.log.text.String())
		}
		told("eventbridge-spot.json", master)
		if draining() || x.log.count("master not drained: no other is ready") != 1 {
			t.Errorf("the only master: draining %v\n%s", draining(), x.log.text.String())
		}
		beat(instance(3)) // and never again: its bridge has died
		told("eventbridge-rebalance.json", master)
		time.Sleep(2 * beatWithin)
		synctest.Wait()
		if draining() || x.log.count("master not drained: no other is ready") != 2 {
			t.Errorf("the other master's heart stands still: draining %v\n%s", draining(), x.log.text.String())
		}
		told("eventbridge-rebalance.json", master)
		beat(instance(3))
		time.Sleep(beatWithin)
		synctest.Wait()
		if !draining() {
			t.Error("a master that EC2 may take back does not drain")
		}
		told("eventbridge-spot.json", instance(9))
		if s := x.reader.Stats(); s.Applied != 4 || s.Ignored != 1 || len(x.left()) != 0 ||
			statusOf(t, x.store, minion) != fleet.Launch {
			t.Errorf("%+v, %d left", s, len(x.left()))
		}
	})
}
