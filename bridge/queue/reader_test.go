package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/fleettest"
)

// rig is a reader over a real store and a fake AWS, in synctest's time.
type rig struct {
	*fakeAWS
	store  fleet.Store
	reader *Reader
	hooks  *Hooks
	log    *lines
	told   []string
	stop   func()
}

var webAndMasters = []Item{{"", "web"}, {Masters, "salt"}}

// newRig starts a reader of one queue. gate, if there is one, befalls the store.
func newRig(t *testing.T, gate fleettest.Plan, queue Item, groups ...Item) *rig {
	t.Helper()
	x := &rig{fakeAWS: &fakeAWS{instances: map[string]fakeInstance{}}, log: &lines{}}
	x.store = newStore(t)
	if gate != nil {
		x.store = fleettest.NewFaulty(x.store, gate)
	}
	var mu sync.Mutex
	cfg := Config{Queues: []Item{queue}, Groups: groups, Attempts: 3, Told: func(ids []string) {
		mu.Lock()
		defer mu.Unlock()
		x.told = append(x.told, ids...)
	}}
	var err error
	x.hooks, err = NewHooks(cfg, x.store, x.autoscaling(), func(string) (bool, error) { return false, nil }, x.log.logger())
	if err == nil {
		x.reader, err = NewReader(cfg, x.store, x.sqs(), x.ec2(), x.hooks, x.log.logger())
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.reader.Run(ctx) }()
	x.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("reader ended with %v", err)
		}
	}
	return x
}

// failing fails the calls of one action, or all.
func failing(action, code string) func(fakeCall) string {
	return func(c fakeCall) string {
		if action == "" || c.action == action {
			return code
		}
		return ""
	}
}

// TestClassification is the one table of what is done with a message: by what it
// says, and by what store and EC2 say of its instance.
func TestClassification(t *testing.T) {
	now := time.Now()
	id, old := instance(1), now.Add(-2*time.Hour)
	hour := func(d time.Duration) time.Time { return now.Add(d) }
	const deleted, left = true, false
	for name, c := range map[string]struct {
		body     string
		before   []fleet.Change
		ec2      string // the instance's state; "": unknown to EC2; "-": EC2 answers with an error
		launched time.Time
		gone     bool // from the queue
		counts   Stats
		after    fleet.Status
	}{
		"launch":                        {message("LAUNCH", id, "web", now), nil, "", now, deleted, Stats{Ours: 1}, fleet.Launch},
		"launch, again":                 {message("LAUNCH", id, "web", now), []fleet.Change{fleet.Add{InstanceID: id}}, "", now, deleted, Stats{Ours: 1}, fleet.Launch},
		"launch of a terminated one":    {message("LAUNCH", id, "web", now), []fleet.Change{fleet.Retire{InstanceID: id}}, "running", now, deleted, Stats{Ours: 1}, fleet.Terminate},
		"terminate":                     {message("TERMINATE", id, "web", now), []fleet.Change{fleet.Add{InstanceID: id}}, "", now, deleted, Stats{Ours: 1}, fleet.Terminate},
		"terminate, no row":             {message("TERMINATE", id, "web", old), nil, "", now, deleted, Stats{Ours: 1}, fleet.Terminate},
		"launch hook":                   {message("LAUNCHING", id, "web", now), nil, "", now, deleted, Stats{Ours: 1}, fleet.Launch},
		"terminate hook":                {message("TERMINATING", id, "web", now), nil, "", now, deleted, Stats{Ours: 1}, fleet.Terminate},
		"old launch, runs":              {message("LAUNCH", id, "web", old), nil, "running", hour(time.Hour), deleted, Stats{Ours: 1}, fleet.Launch},
		"old launch, stopped":           {message("LAUNCH", id, "web", old), nil, "stopped", hour(time.Hour), deleted, Stats{Ours: 1}, fleet.Launch},
		"old launch, terminated":        {message("LAUNCH", id, "web", old), nil, "terminated", old, deleted, Stats{NotOurs: 1}, ""},
		"old launch, unknown to EC2":    {message("LAUNCH", id, "web", old), nil, "", old, deleted, Stats{NotOurs: 1}, ""},
		"old launch, EC2 fails":         {message("LAUNCH", id, "web", old), nil, "-", old, left, Stats{Transient: 1}, ""},
		"old launch, row there":         {message("LAUNCH", id, "web", old), []fleet.Change{fleet.Add{InstanceID: id}}, "-", old, deleted, Stats{Ours: 1}, fleet.Launch},
		"launch without time":           {strings.Replace(message("LAUNCH", id, "web", now), `"Time"`, `"Tempo"`, 1), nil, "", old, deleted, Stats{NotOurs: 1}, ""},
		"other group":                   {message("LAUNCH", id, "db", now), nil, "", now, deleted, Stats{NotOurs: 1}, ""},
		"failed launch":                 {message("LAUNCH_ERROR", "", "web", now), nil, "", now, deleted, Stats{NotOurs: 1}, ""},
		"test":                          {string(fixture(t, "sns-test.json")), nil, "", now, deleted, Stats{NotOurs: 1}, ""},
		"into the warm pool":            {string(fixture(t, "eventbridge-into-pool.json")), nil, "", now, deleted, Stats{NotOurs: 1}, ""},
		"hook on the way into the pool": {string(fixture(t, "eventbridge-hook-into-pool.json")), nil, "", now, deleted, Stats{Ours: 1}, ""},
		"not JSON":                      {"hello", nil, "", now, left, Stats{Malformed: 1}, ""},
		"no instance":                   {message("LAUNCH", "", "web", now), nil, "", now, left, Stats{Malformed: 1}, ""},
		"glob":                          {message("TERMINATE", "*", "web", now), nil, "", now, left, Stats{Malformed: 1}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// synctest's clock begins in 2000; the messages were written by the real one.
				time.Sleep(time.Until(now))
				x := newRig(t, nil, Item{"", "q"}, webAndMasters...)
				defer func() { x.stop() }()
				if _, err := x.store.Apply(t.Context(), c.before); err != nil {
					t.Fatal(err)
				}
				switch c.ec2 {
				case "-":
					x.set(func() { x.fail = failing("DescribeInstances", "UnauthorizedOperation") })
				case "":
				default:
					x.set(func() { x.instances[id] = fakeInstance{c.ec2, c.launched} })
				}
				x.send(c.body)
				time.Sleep(visible / 2)
				synctest.Wait()
				got := x.reader.Stats()
				got.Received, got.Deleted = 0, 0
				if gone := len(x.left()) == 0; gone != c.gone || got != c.counts {
					t.Errorf("deleted %v, counts %+v; want %v, %+v\n%s", gone, got, c.gone, c.counts, x.log.text.String())
				}
				if after := statusOf(t, x.store, id); after != c.after {
					t.Errorf("row says %q, want %q", after, c.after)
				}
			})
		})
	}
}

// An instance from before the fleet, whose old launch message comes now, is adopted.
func TestG9OldLaunchIsAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "q"})
		defer x.stop()
		x.set(func() { x.instances[instance(1)] = fakeInstance{"running", time.Now().Add(-48 * time.Hour)} })
		x.send(message("LAUNCH", instance(1), "web", time.Now().Add(-48*time.Hour)))
		x.send(message("LAUNCH", instance(2), "web", time.Now().Add(-time.Minute)))
		time.Sleep(time.Second)
		synctest.Wait()
		for n, adopted := range map[int]bool{1: true, 2: false} {
			if row, err := x.store.Minion(t.Context(), instance(n)); err != nil || row.Adopted() != adopted {
				t.Errorf("%+v, %v; want adopted %v", row, err, adopted)
			}
		}
	})
}

// A master's end is told in both tables, and its launch in the minions' only.
func TestMastersAreInBothTables(t *testing.T) {
	for name, c := range map[string]struct {
		queue  Item
		group  string
		master bool
	}{
		"by group":                  {Item{"", "q"}, "salt", true},
		"by queue":                  {Item{Masters, "q"}, "other", true},
		"minions":                   {Item{"", "q"}, "web", false},
		"group goes before queue":   {Item{Minions, "q"}, "salt", true},
		"queue of masters, any own": {Item{Masters, "q"}, "web", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newRig(t, nil, c.queue, webAndMasters...)
				defer x.stop()
				x.send(message("LAUNCH", instance(1), c.group, time.Now()))
				time.Sleep(time.Second)
				synctest.Wait()
				if masters, err := x.store.Masters(t.Context()); err != nil || len(masters) != 0 || statusOf(t, x.store, instance(1)) != fleet.Launch {
					t.Errorf("launched: masters %v, %v", masters, err)
				}
				x.send(message("TERMINATE", instance(1), c.group, time.Now()))
				time.Sleep(time.Second)
				synctest.Wait()
				masters, err := x.store.Masters(t.Context())
				if err != nil || (len(masters) == 1 && masters[0].Status == fleet.Terminate) != c.master || statusOf(t, x.store, instance(1)) != fleet.Terminate {
					t.Errorf("terminated: masters %v, %v", masters, err)
				}
			})
		})
	}
}

// TestG6PoisonDoesNotStopTheLoop: a thousand poisonous messages between good ones.
func TestG6PoisonDoesNotStopTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "q"})
		const poison, good = 1000, 50
		var bad []string
		for _, body := range malformed() {
			if len(body) < 300<<10 && body != "" { // SQS takes no empty message
				bad = append(bad, body)
			}
		}
		for n := range poison {
			x.send(bad[n%len(bad)])
			if n%(poison/good) == 0 {
				x.send(message("LAUNCH", instance(n), "web", time.Now()))
			}
		}
		time.Sleep(visible / 2) // each is handed out once
		synctest.Wait()
		s := x.reader.Stats()
		if s.Ours != good || s.Malformed != poison || s.Received != poison+good || len(x.left()) != poison {
			t.Errorf("%+v, %d left", s, len(x.left()))
		}
		time.Sleep(visible) // and again
		x.send(message("TERMINATE", instance(0), "web", time.Now()))
		time.Sleep(visible)
		synctest.Wait()
		if statusOf(t, x.store, instance(0)) != fleet.Terminate || x.reader.Stats().Malformed < 2*poison {
			t.Errorf("%+v", x.reader.Stats())
		}
		if n := x.log.count("dead-letter"); n < 1 || n > 5 {
			t.Errorf("%d lines of the log complain", n)
		}
		x.stop()
	})
}

// TestG6WrittenBeforeDeleted: when a message is deleted its row is there, whatever
// the store does; a bridge that is killed in between changes nothing.
func TestG6WrittenBeforeDeleted(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) {
			x := newRig(t, fleettest.Seeded(seed, fleettest.Rates{Before: 0.4, After: 0.3, Twice: 0.2, Delay: 0.3, MaxDelay: 10 * time.Second}),
				Item{"", "q"}, webAndMasters...)
			const n = 30
			bare := x.store.(*fleettest.Faulty).Store
			x.mu.Lock()
			x.fail = func(c fakeCall) string {
				for _, body := range c.bodies {
					m, err := Parse([]byte(body))
					status := statusOf(t, bare, m.InstanceID)
					if c.action == "DeleteMessageBatch" && (err != nil || status == "" || m.Kind == Ended && status != fleet.Terminate) {
						t.Errorf("seed %d: %s (%v) is deleted, and its row says %q", seed, body, err, status)
					}
				}
				return ""
			}
			x.mu.Unlock()
			for i := range n {
				x.send(message("LAUNCH", instance(i), "web", time.Now()))
			}
			for i := range n / 2 {
				x.send(message("TERMINATE", instance(i), "salt", time.Now()))
			}
			for i := 0; i < 120 && len(x.left()) > 0; i++ {
				time.Sleep(time.Minute)
			}
			if left := x.left(); len(left) > 0 {
				t.Errorf("seed %d: %d messages are left\n%s", seed, len(left), x.log.text.String())
			}
			masters, err := bare.Masters(t.Context())
			if err != nil || len(masters) != n/2 {
				t.Errorf("seed %d: %d masters, %v", seed, len(masters), err)
			}
			x.stop()
		})
	}
}

// While the store is away for ten minutes few messages are taken, none is lost,
// and each is applied when it is back.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		away := true
		gone := func(fleettest.Call) (f fleettest.Fault) {
			mu.Lock()
			defer mu.Unlock()
			if away {
				f.Before = fmt.Errorf("throttled: %w", fleet.ErrUnavailable)
			}
			return f
		}
		x := newRig(t, gone, Item{"", "q"})
		for i := range 30 {
			x.send(message("LAUNCH", instance(i), "web", time.Now()))
		}
		time.Sleep(90 * time.Second)
		if s := x.reader.Stats(); s.Received != 10 || x.count("ChangeMessageVisibilityBatch") < 3 {
			t.Errorf("%+v, visibility extended %d times", s, x.count("ChangeMessageVisibilityBatch"))
		}
		time.Sleep(10 * time.Minute)
		if s := x.reader.Stats(); s.Received != 10 || s.Transient != 10 || len(x.left()) != 30 {
			t.Errorf("after ten minutes: %+v, %d left", s, len(x.left()))
		}
		mu.Lock()
		away = false
		mu.Unlock()
		time.Sleep(retryMost + visible)
		synctest.Wait()
		if s := x.reader.Stats(); s.Ours != 30 || len(x.left()) != 0 {
			t.Errorf("the store is back: %+v, %d left", s, len(x.left()))
		}
		if n := x.log.count("messages wait for the store"); n != 1 {
			t.Errorf("%d lines tell of it", n)
		}
		x.stop()
	})
}

// A write that takes long keeps its messages from coming again.
func TestVisibilityIsExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(c fleettest.Call) (f fleettest.Fault) {
			if c.Method == "Apply" {
				f.Delay = 90 * time.Second
			}
			return f
		}
		x := newRig(t, slow, Item{"", "q"})
		x.send(message("LAUNCH", instance(1), "web", time.Now()))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s := x.reader.Stats(); s.Received != 1 || s.Ours != 1 || s.Deleted != 1 || x.count("ChangeMessageVisibilityBatch") != 4 {
			t.Errorf("%+v, extended %d times", s, x.count("ChangeMessageVisibilityBatch"))
		}
		x.stop()
	})
}

// SQS may fail some entries of a batch, or all; and a receipt handle expires.
func TestDeleteFails(t *testing.T) {
	for name, c := range map[string]struct {
		code    string
		times   int // that the call fails
		expire  bool
		deleted int
		lines   int
	}{
		"all well":           {"", 0, false, 1, 0},
		"once":               {"InternalFailure", 4, false, 1, 0}, // the SDK itself tries three times
		"always":             {"InternalFailure", 1000, false, 0, 1},
		"denied":             {"AccessDenied", 1000, false, 0, 1},
		"handle has expired": {"", 0, true, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newRig(t, nil, Item{"", "q"})
				left := c.times
				x.mu.Lock()
				x.fail = func(call fakeCall) string {
					if call.action != "DeleteMessageBatch" {
						return ""
					}
					x.mu.Lock()
					defer x.mu.Unlock()
					if c.expire {
						x.messages[0].handle = "another"
					}
					if left--; left >= 0 {
						return c.code
					}
					return ""
				}
				x.mu.Unlock()
				x.send(message("LAUNCH", instance(1), "web", time.Now()))
				time.Sleep(visible / 2)
				synctest.Wait()
				if s := x.reader.Stats(); s.Ours != 1 || int(s.Deleted) != c.deleted || x.log.count("not deleted") != c.lines {
					t.Errorf("%+v\n%s", s, x.log.text.String())
				}
				if statusOf(t, x.store, instance(1)) != fleet.Launch {
					t.Error("not applied")
				}
				x.stop()
			})
		})
	}
}

// A queue that does not answer, or does not exist, is told once and asked with
// growing pauses; the loop lives.
func TestReceiveFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "q"})
		x.set(func() { x.fail = failing("", "QueueDoesNotExist") })
		time.Sleep(10 * time.Minute)
		x.send(message("LAUNCH", instance(1), "web", time.Now()))
		if n := x.count("GetQueueUrl") + x.count("ReceiveMessage"); n < 10 || n > 40 {
			t.Errorf("%d calls in ten minutes", n)
		}
		if x.log.count("queue is not read") != 1 || x.log.count("see sqs.queues") != 1 {
			t.Errorf("log:\n%s", x.log.text.String())
		}
		x.set(func() { x.fail = nil })
		time.Sleep(retryMost + time.Second)
		synctest.Wait()
		if statusOf(t, x.store, instance(1)) != fleet.Launch || x.log.count("queue is read again") != 1 {
			t.Error("not applied")
		}
		x.stop()
	})
}

// An idle queue costs three requests a minute and no line; and it is known to be
// empty, which reconciling waits for.
func TestIdleIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "https://sqs.us-west-2.amazonaws.com/123456789012/q"})
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := x.count("ReceiveMessage"); n < 179 || n > 182 {
			t.Errorf("%d polls in an hour", n)
		}
		if x.log.count("\n") != 0 {
			t.Errorf("log:\n%s", x.log.text.String())
		}
		select {
		case <-x.reader.Drained():
		default:
			t.Error("not known to be empty")
		}
		x.stop()
	})
}

// An endpoint that does not hold the poll is not asked without end.
func TestImpatientQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, nil, Item{"", "q"})
		x.set(func() { x.impatient = true })
		time.Sleep(time.Minute)
		if n := x.count("ReceiveMessage"); n < 10 || n > 61 {
			t.Errorf("%d polls in a minute", n)
		}
		x.stop()
	})
}

// A stop takes what is in hand to its end, and no more.
func TestStopDeletesWhatIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(c fleettest.Call) (f fleettest.Fault) {
			if c.Method == "Apply" {
				f.Delay = time.Second
			}
			return f
		}
		x := newRig(t, slow, Item{"", "q"})
		x.send(message("LAUNCH", instance(1), "web", time.Now()))
		time.Sleep(500 * time.Millisecond)
		x.stop() // in the midst of the write
		if statusOf(t, x.store, instance(1)) != "" || len(x.left()) != 1 {
			t.Error("a write that was cut short passes for one that was done")
		}
		x = newRig(t, nil, Item{"", "q"})
		cut := make(chan struct{})
		x.mu.Lock()
		x.fail = func(c fakeCall) string {
			if c.action == "DeleteMessageBatch" && !c.bounds {
				t.Error("the deletion has no bound")
			}
			if c.action == "DeleteMessageBatch" {
				<-cut
			}
			return ""
		}
		x.mu.Unlock()
		x.send(message("LAUNCH", instance(1), "web", time.Now()))
		time.Sleep(500 * time.Millisecond)
		time.AfterFunc(time.Second, func() { close(cut) })
		x.stop()
		if len(x.left()) != 0 || !slices.Equal(x.told, []string{instance(1)}) {
			t.Errorf("left %v, told %v", x.left(), x.told)
		}
	})
}

func TestParseItem(t *testing.T) {
	for text, want := range map[string]Item{
		"web":          {"", "web"},
		"masters:salt": {Masters, "salt"},
		"minions:web":  {Minions, "web"},
		"https://sqs.us-west-2.amazonaws.com/1/q":         {"", "https://sqs.us-west-2.amazonaws.com/1/q"},
		"masters:https://sqs.us-west-2.amazonaws.com/1/q": {Masters, "https://sqs.us-west-2.amazonaws.com/1/q"},
		"other:web": {"", "other:web"}, // a group's name may hold a colon
	} {
		if got, err := ParseItem(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "masters:", "a\nb", "arn:aws:sqs:us-west-2:1:q", "minions:arn:aws:sqs:us-west-2:1:q"} {
		if got, err := ParseItem(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	f, log := &fakeAWS{}, (&lines{}).logger()
	store := newStore(t)
	hooks, err := NewHooks(Config{}, store, f.autoscaling(), func(string) (bool, error) { return true, nil }, log)
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"no queue":    {Groups: []Item{{"", "web"}}},
		"queue twice": {Queues: []Item{{"", "q"}, {Masters, "q"}}, Groups: []Item{{"", "web"}}},
		"odd role":    {Queues: []Item{{"odd", "q"}}, Groups: []Item{{"", "web"}}},
	} {
		if _, err := NewReader(cfg, store, f.sqs(), f.ec2(), hooks, log); err == nil {
			t.Errorf("%s: reader made", name)
		}
	}
	good := Config{Queues: []Item{{"", "q"}}}
	_, errStore := NewReader(good, nil, f.sqs(), f.ec2(), hooks, log)
	_, errHooks := NewHooks(good, store, f.autoscaling(), nil, log)
	if errStore == nil || errHooks == nil {
		t.Errorf("%v, %v", errStore, errHooks)
	}
}
