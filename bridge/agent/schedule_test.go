package agent

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// As PyYAML writes it (salt.utils.schedule, persist).
const (
	scheduleHead = "schedule:\n"
	aliveA       = `  __master_alive_10.0.0.1:
    enabled: true
    function: status.master
    jid_include: true
    kwargs:
      connected: true
      master: 10.0.0.1
    maxrunning: 1
    name: __master_alive_10.0.0.1
    return_job: false
    seconds: 15
`
	mine = `  __mine_interval:
    enabled: true
    function: mine.update
    minutes: 60
`
	daily = `  'daily: "x"':
    args: [a,
      b]
    function: "test.ping"
`
)

var (
	aliveB = strings.ReplaceAll(aliveA, "10.0.0.1", "10.0.0.2")
	alive6 = strings.ReplaceAll(strings.Replace(aliveA, "__master_alive_10.0.0.1:", "? __master_alive_fd00::1\n  :", 1),
		"10.0.0.1", "fd00::1")
)

func TestForgetsTheStaleOnly(t *testing.T) {
	listed := []string{"10.0.0.2"}
	for _, test := range []struct{ name, before, after string }{
		{"first", scheduleHead + aliveA + aliveB + mine, scheduleHead + aliveB + mine},
		{"in the middle", scheduleHead + aliveB + aliveA + mine + daily, scheduleHead + aliveB + mine + daily},
		{"last", scheduleHead + mine + daily + aliveA, scheduleHead + mine + daily},
		{"without a last line end", scheduleHead + mine + strings.TrimSuffix(aliveA, "\n"), scheduleHead + mine},
		{"all there is", scheduleHead + aliveA, "schedule: {}\n"},
		{"all there is, and another option", scheduleHead + aliveA + "x: 1\n", "schedule: {}\nx: 1\n"},
		{"after another option", "x: 1 # kept\n" + scheduleHead + daily + aliveA,
			"x: 1 # kept\n" + scheduleHead + daily},
		{"two", scheduleHead + aliveA + daily + strings.ReplaceAll(aliveA, "10.0.0.1", "10.0.0.9"),
			scheduleHead + daily},
		{"IPv6", scheduleHead + daily + alive6, scheduleHead + daily},
		{"on one line", "schedule: {__master_alive_10.0.0.1: {function: status.master}}\n", "schedule: {}\n"},
		{"none", scheduleHead + aliveB + mine, ""},
		{"no schedule", "x: 1\n", ""},
		{"an empty one", "schedule: {}\n", ""},
		{"none at all", "", ""},
	} {
		d, check := newTree(t)
		path := filepath.Join(d.minion.DropIns, scheduleName)
		put(t, path, test.before)
		before := identity(t, path)
		removed, err := d.RemoveAlive(listed)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if test.after == "" {
			if len(removed) > 0 || identity(t, path) != before {
				t.Errorf("%s: forgot %v", test.name, removed)
			}
			continue
		}
		if got := get(t, path); got != test.after || len(removed) == 0 || slices.Contains(removed, "10.0.0.2") {
			t.Errorf("%s: forgot %v, left\n%s", test.name, removed, got)
		}
		put(t, path, others["minion.d/"+scheduleName])
		check()
	}
}

// G5: kill -9 at each step: the schedule is the old one or the new one, and the
// next agent ends what this one began.
func TestG5_KilledWhileForgetting(t *testing.T) {
	const before = scheduleHead + daily
	d, _ := newTree(t)
	path := filepath.Join(d.minion.DropIns, scheduleName)
	put(t, path, before+aliveA)
	var labels []string
	d.step = func(label string) error { labels = append(labels, label); return nil }
	if _, err := d.RemoveAlive(newList.Addresses()); err != nil || len(labels) < 6 {
		t.Fatalf("steps %q, %v", labels, err)
	}
	for _, label := range labels {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			d, _ := newTree(t)
			path := filepath.Join(d.minion.DropIns, scheduleName)
			put(t, path, before+aliveA)
			killedAt(t, label, d)
			if got := get(t, path); got != before && got != before+aliveA {
				t.Errorf("neither the old text nor the new one: %q", got)
			}
			if _, err := d.RemoveAlive(newList.Addresses()); err != nil || get(t, path) != before {
				t.Errorf("the next agent left %q, %v", get(t, path), err)
			}
			left, err := filepath.Glob(filepath.Join(d.minion.DropIns, ".*.new"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// What is not written as Salt writes it is left alone, and told of.
func TestOddScheduleIsLeftAlone(t *testing.T) {
	for _, text := range []string{
		"schedule: {__master_alive_10.0.0.1: {function: status.master}, daily: {function: test.ping}}\n",
		"a: &a\n  x: 1\nschedule: &b\n  __master_alive_10.0.0.1: &c {x: 1}\n  daily: *c\n",
		"schedule:\n  <<: {y: 1}\n  __master_alive_10.0.0.1: {x: 1}  }\n",
		"schedule: [\n",
	} {
		d, _ := newTree(t)
		path := filepath.Join(d.minion.DropIns, scheduleName)
		put(t, path, text)
		before := identity(t, path)
		if removed, err := d.RemoveAlive(nil); err == nil {
			t.Errorf("%q: forgot %v", text, removed)
		}
		if identity(t, path) != before {
			t.Errorf("%q was touched", text)
		}
	}
}

// Whatever the file holds, what is left means the same without the jobs.
func FuzzForgetAlive(f *testing.F) {
	for _, text := range []string{scheduleHead + aliveA + aliveB + mine, scheduleHead + alive6,
		"schedule: {__master_alive_x: 1}", "schedule: &a\n  __master_alive_x: *a\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		rest, removed, err := withoutAlive(text, []string{"10.0.0.2"})
		if err != nil || len(removed) == 0 {
			return
		}
		if again, more, err := withoutAlive(rest, []string{"10.0.0.2"}); err != nil || len(more) > 0 {
			t.Errorf("%q left %q, of which %q, %v", text, rest, again, err)
		}
	})
}
