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

// rig is a reader over a real store and a fake AWS, in synctest's time.
type rig struct {
	*fakeAWS
	store   fleet.Store
	reader  *Reader
	hooks   *Hooks
	log     *lines
	changed []string
	stop    func()
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
	cfg := Config{Queues: []Item{queue}, Groups: groups, Hooks: ourNames, Attempts: 3,
		Changed: func(rows []fleet.Minion) {
			mu.Lock()
			defer mu.Unlock()
			x.changed = append(x.changed, instancesOf(rows)...)
		}}
	var err error
	x.hooks, err = NewHooks(cfg, x.store, x.autoscaling(), x.log.logger())
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
// TestClassification is the one table of what is done with a message: by what it
// says, and by what store and EC2 say of its instance.
// An instance from before the fleet, whose old launch message comes now, is adopted.
// A master's end is recorded in both tables, and its launch in the minions' only.
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
		if s.Applied != good || s.Malformed != poison || s.Received != poison+good || len(x.left()) != poison {
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
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			x := newRig(t, fleettest.Seeded(seed,
				fleettest.Rates{Before: 0.4, After: 0.3, Twice: 0.2, Delay: 0.3, MaxDelay: 10 * time.Second}),
				Item{"", "q"}, webAndMasters...)
			const n = 30
			bare := x.store.(*fleettest.Faulty).Store
			x.set(func() {
				for i := range n / 2 {
					x.instances[instance(i)] = fakeInstance{"terminated", time.Now()}
				}
			})
			x.mu.Lock()
			x.fail = func(c fakeCall) string {
				for _, body := range c.bodies {
					m, err := Parse([]byte(body))
					status := statusOf(t, bare, m.InstanceID)
					if c.action == "DeleteMessageBatch" && (err != nil || status == "" ||
						m.Kind == Ended && status != fleet.Terminate) {
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
			for i := 0; i < 240 && len(x.left()) > 0; i++ {
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
		var all []string // in one go: the reader takes what is there
		for i := range 30 {
			all = append(all, message("LAUNCH", instance(i), "web", time.Now()))
		}
		x.send(all...)
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
		if s := x.reader.Stats(); s.Applied != 30 || len(x.left()) != 0 {
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
		if s := x.reader.Stats(); s.Received != 1 || s.Applied != 1 || s.Deleted != 1 ||
			x.count("ChangeMessageVisibilityBatch") != 4 {
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
				if s := x.reader.Stats(); s.Applied != 1 || int(s.Deleted) != c.deleted ||
					x.log.count("not deleted") != c.lines {
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

// A queue that does not answer, or does not exist, is reported once and asked with
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
		if len(x.left()) != 0 || !slices.Equal(x.changed, []string{instance(1)}) {
			t.Errorf("left %v, changed %v", x.left(), x.changed)
		}
	})
}
