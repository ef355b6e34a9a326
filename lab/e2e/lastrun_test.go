package e2e_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/admin"
	"phoenix/bridge/lastrun"
	"phoenix/lab"
)

// The last state run of a minion is shown whoever started it: the bridge, the salt command,
// salt-call on the minion, a schedule. What runs no state is not.
func TestLastRunOfAnyKind(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, version)
			l, master, bridge := f.lab, f.master, f.bridge
			bridge.Phoenix("minions", "add", "web-1")
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
			row := f.ran(t, minion, 1)
			last := func(what string, is func(lastrun.Run) bool) {
				t.Helper()
				l.Eventually(within, "the last run is "+what, func() (bool, string) {
					var rows []admin.LastRun
					bridge.JSON(&rows, "minions", "list", "--last-run")
					out := bridge.Phoenix("minions", "list", "--last-run")
					return len(rows) == 1 && rows[0].Run != nil && is(*rows[0].Run), out
				})
			}
			last("the first highstate", func(r lastrun.Run) bool {
				return r.Function == "state.highstate" && r.JID == row.ClaimJID &&
					r.Outcome == lastrun.Succeeded && r.States == 1
			})
			master.Call("web-1", "state.single", "test.fail_without_changes", "name=broken")
			last("one that failed", func(r lastrun.Run) bool {
				return r.Function == "state.single" && r.Outcome == lastrun.Failed && r.Failed == 1 &&
					strings.Join(r.Names, "") == "broken" && !r.Test
			})
			master.Call("web-1", "test.ping")
			master.Call("web-1", "state.show_top")
			master.Call("web-1", "state.apply", "first", "test=True")
			last("a dry run", func(r lastrun.Run) bool { return r.Function == "state.apply" && r.Test })
			master.Call("web-1", "state.apply", "nowhere")
			last("one that could not be rendered", func(r lastrun.Run) bool {
				return r.Function == "state.apply" && r.Outcome == lastrun.Failed && r.States == 0 &&
					strings.Contains(r.Text, "nowhere")
			})
			python := minion.Salt.Python()
			call := exec.Command(python, filepath.Join(filepath.Dir(python), "salt-call"), "-c",
				filepath.Dir(minion.ConfigPath()), "state.single", "test.nop", "name=called")
			if out, err := call.CombinedOutput(); err != nil {
				t.Fatalf("salt-call: %v: %s", err, out)
			}
			last("that of salt-call", func(r lastrun.Run) bool {
				return r.Function == "state.single" && r.Outcome == lastrun.Succeeded && r.States == 1
			})
			master.Call("web-1", "schedule.add", "nightly", "function=state.single",
				"job_args=['test.succeed_with_changes']", "job_kwargs={'name': scheduled}", "seconds=1", "maxrunning=1")
			last("that of a schedule", func(r lastrun.Run) bool {
				return r.Function == "state.single" &&
					r.Changed == 1
			})
			if out := bridge.Phoenix("minions", "explain", "web-1"); !strings.Contains(out,
				"last run   state.single succeeded ") {
				t.Errorf("it is not explained: %s", out)
			}
			bridge.Stop()
			last("after the bridge has ended, what the job cache has",
				func(r lastrun.Run) bool { return r.Function == "state.single" && r.Changed == 1 })
		})
	}
}

// What happened at night is in the trail: the bridge's start and end, and the loss of its
// master and of the event bus, each with its end. The other questions of a night are asked
// on the way.
func TestNightQuestions(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, version)
			l, master, bridge := f.lab, f.master, f.bridge
			bridge.Phoenix("minions", "add", "web-1", "web-2")
			f.ran(t, l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}}), 1)
			if out, stderr, code := bridge.Try("masters", "check", master.ID); code != 1 ||
				!strings.Contains(out+stderr, "no other master serves") {
				t.Errorf("may it be restarted: exit %d, %s%s", code, out, stderr)
			}
			if out := bridge.Phoenix("highstate", "show", "web-1"); !strings.Contains(out,
				"1 state, 0 changed, 0 failed") {
				t.Errorf("what its highstate did: %s", out)
			}
			if out := bridge.Phoenix("highstate", "list"); !strings.Contains(out, "web-2") ||
				!strings.Contains(out, "wanted: starts when its key is accepted") {
				t.Errorf("who has none, and why: %s", out)
			}
			happened := func(want ...string) {
				t.Helper()
				l.Eventually(within, "the trail has "+strings.Join(want, ", "), func() (bool, string) {
					out := bridge.Phoenix("history", "--since", "1h")
					for _, text := range want {
						if !strings.Contains(out, text) {
							return false, out
						}
					}
					return true, ""
				})
			}
			happened("bridge started", "key accepted", "highstate succeeded")
			master.Stop()
			happened("event bus lost", "master does not serve")
			master.Start()
			master.Ready()
			happened("event bus connected again", "master serves again")
			bridge.Stop()
			happened("bridge ended")
		})
	}
}
