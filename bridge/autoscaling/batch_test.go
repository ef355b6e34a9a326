package autoscaling

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"phoenix/bridge/fleet"
)

func failing(action, code string) func(fakeCall) string {
	return func(c fakeCall) string {
		if action == "" || c.action == action {
			return code
		}
		return ""
	}
}

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
		"launch": {message("LAUNCH", id, "web", now), nil, "", now, deleted, Stats{Applied: 1},
			fleet.Launch},
		"launch, again": {message("LAUNCH", id, "web", now), []fleet.Change{fleet.Add{InstanceID: id}},
			"", now, deleted, Stats{Applied: 1}, fleet.Launch},
		"launch of a terminated one": {message("LAUNCH", id, "web", now),
			[]fleet.Change{fleet.Retire{InstanceID: id}}, "running", now, deleted, Stats{Applied: 1}, fleet.Terminate},
		"terminate": {message("TERMINATE", id, "web", now),
			[]fleet.Change{fleet.Add{InstanceID: id}}, "", now, deleted, Stats{Applied: 1}, fleet.Terminate},
		"terminate, no row": {message("TERMINATE", id, "web", old), nil, "", now, deleted,
			Stats{Applied: 1}, fleet.Terminate},
		"launch hook": {message("LAUNCHING", id, "web", now), nil, "", now, deleted,
			Stats{Applied: 1}, fleet.Launch},
		"terminate hook": {message("TERMINATING", id, "web", now), nil, "", now, deleted,
			Stats{Applied: 1}, fleet.Terminate},
		"old launch, runs": {message("LAUNCH", id, "web", old), nil, "running", hour(time.Hour), deleted,
			Stats{Applied: 1}, fleet.Launch},
		"old launch, stopped": {message("LAUNCH", id, "web", old), nil, "stopped", hour(time.Hour), deleted,
			Stats{Applied: 1}, fleet.Launch},
		"old launch, terminated": {message("LAUNCH", id, "web", old), nil, "terminated", old, deleted,
			Stats{Ignored: 1}, ""},
		"old launch, unknown to EC2": {message("LAUNCH", id, "web", old), nil, "", old, deleted,
			Stats{Ignored: 1}, ""},
		"old launch, EC2 fails": {message("LAUNCH", id, "web", old), nil, "-", old, left,
			Stats{Transient: 1}, ""},
		"old launch, row there": {message("LAUNCH", id, "web", old), []fleet.Change{fleet.Add{InstanceID: id}},
			"-", old, deleted, Stats{Applied: 1}, fleet.Launch},
		"launch without time": {strings.Replace(message("LAUNCH", id, "web", now), `"Time"`, `"Tempo"`, 1),
			nil, "", old, deleted, Stats{Ignored: 1}, ""},
		"other group": {message("LAUNCH", id, "db", now), nil, "", now, deleted,
			Stats{Ignored: 1}, ""},
		"failed launch": {message("LAUNCH_ERROR", "", "web", now), nil, "", now, deleted,
			Stats{Ignored: 1}, ""},
		"test": {string(fixture(t, "sns-test.json")), nil, "", now, deleted,
			Stats{Ignored: 1}, ""},
		"into the warm pool": {string(fixture(t, "eventbridge-into-pool.json")), nil, "", now, deleted,
			Stats{Ignored: 1}, ""},
		"hook on the way into the pool": {string(fixture(t, "eventbridge-hook-into-pool.json")), nil, "", now, deleted,
			Stats{Applied: 1}, ""},
		"another's event": {`{"Records":[]}`, nil, "", now, deleted, Stats{Ignored: 1}, ""},
		"launch in years": {message("LAUNCH", id, "web", hour(9000*time.Hour)), nil, "", now, deleted,
			Stats{Ignored: 1}, ""},
		"not JSON": {"hello", nil, "", now, left, Stats{Malformed: 1}, ""},
		"no instance": {message("LAUNCH", "", "web", now), nil, "", now, left,
			Stats{Malformed: 1}, ""},
		"glob": {message("TERMINATE", "*", "web", now), nil, "", now, left,
			Stats{Malformed: 1}, ""},
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
					t.Errorf("deleted %v, counts %+v; want %v, %+v\n%s", gone, got, c.gone, c.counts,
						x.log.text.String())
				}
				if after := statusOf(t, x.store, id); after != c.after {
					t.Errorf("row says %q, want %q", after, c.after)
				}
			})
		})
	}
}

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
				if masters, err := x.store.Masters(t.Context()); err != nil || len(masters) != 0 ||
					statusOf(t, x.store, instance(1)) != fleet.Launch {
					t.Errorf("launched: masters %v, %v", masters, err)
				}
				x.set(func() { x.instances[instance(1)] = fakeInstance{"shutting-down", time.Now()} })
				x.send(message("TERMINATE", instance(1), c.group, time.Now()))
				time.Sleep(time.Second)
				synctest.Wait()
				masters, err := x.store.Masters(t.Context())
				if err != nil || (len(masters) == 1 && masters[0].Status == fleet.Terminate) != c.master ||
					statusOf(t, x.store, instance(1)) != fleet.Terminate {
					t.Errorf("terminated: masters %v, %v", masters, err)
				}
			})
		})
	}
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
	for _, text := range []string{"", "masters:", "a\nb", "arn:aws:sqs:us-west-2:1:q",
		"minions:arn:aws:sqs:us-west-2:1:q"} {
		if got, err := ParseItem(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	f, log := &fakeAWS{}, (&lines{}).logger()
	store := newStore(t)
	hooks, err := NewHooks(Config{}, store, f.autoscaling(), log)
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
	_, errHooks := NewHooks(good, store, nil, log)
	if errStore == nil || errHooks == nil {
		t.Errorf("%v, %v", errStore, errHooks)
	}
}
