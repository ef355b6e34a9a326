package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/lab"
)

// A machine is rebuilt under its old name: its new key is denied, or, after somebody has
// deleted the old one, unlinked by the bridge. One command takes it in, and ends when
// the minion answers; the old machine is outside then.
func TestRebuiltMachine(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, version)
			l, master, bridge := f.lab, f.master, f.bridge
			options := lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master},
				Extra: map[string]any{"rejected_retry": true}}
			bridge.Phoenix("minions", "add", "web-1")
			old := l.StartMinion(options)
			before := f.ran(t, old, 1)
			served := bridge.Phoenix("minions", "list", "--on", master.ID)
			if where := bridge.Phoenix("minions", "where", "web-1"); !strings.Contains(where, master.ID) ||
				!strings.Contains(served, "web-1") {
				t.Errorf("which master serves it: %s%s", where, served)
			}
			if _, stderr, code := bridge.Try("keys", "accept", "--rebind", "--yes", "--wait", "1s",
				"web-1"); code == 0 || !strings.Contains(stderr, "no other key was seen") {
				t.Fatalf("with nothing but the bound key: exit %d, %s", code, stderr)
			}
			for _, way := range []string{"denied", "unlinked"} {
				old.Stop()
				if way == "unlinked" {
					master.Run("salt-key", "-y", "-d", "web-1")
				}
				rebuilt := l.StartMinion(options)
				if way == "denied" {
					l.Eventually(within, "its key is denied", func() (bool, string) {
						return len(master.Denied()) == 1, fmt.Sprint(master.Denied(), master.Pending())
					})
				} else {
					l.Eventually(within, "its key is unlinked", func() (bool, string) {
						out := bridge.Phoenix("minions", "explain", "web-1")
						return strings.Contains(out, "pending key unlinked"), out
					})
				}
				if _, stderr, code := bridge.Try("keys", "accept", "--rebind", "web-1"); code != 2 ||
					!strings.Contains(stderr, "--yes is needed") {
					t.Fatalf("nobody was asked: exit %d, %s", code, stderr)
				}
				out := bridge.Phoenix("keys", "accept", "--rebind", "--yes", "--wait", within.String(), "web-1")
				if !strings.Contains(out, before.KeySHA256) || !strings.Contains(out, way+" since ") ||
					!strings.Contains(out, "answers") {
					t.Errorf("%s: it does not show both keys: %s", way, out)
				}
				row := f.ran(t, rebuilt, 1)
				if row.KeySHA256 == before.KeySHA256 || !strings.Contains(out, row.KeySHA256) {
					t.Errorf("%s: bound is %s", way, row.KeySHA256)
				}
				rebuilt.Answers(master)
				if denied, pending := master.Denied(), master.Pending(); len(denied)+len(pending) > 0 {
					t.Errorf("%s: left behind: denied %v, pending %v", way, denied, pending)
				}
				old, before = rebuilt, row
			}
		})
	}
}

// With rebind.limit the bridge binds the key of a rebuilt machine by itself, so many times
// within 24 hours; then an administrator decides, and the audit trail says so.
func TestRebindLimit(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
	bridge := l.NewBridge(lab.BridgeOptions{Master: master,
		Config: map[string]any{"rebind": map[string]any{"limit": 1}}})
	master.Ready()
	bridge.Start()
	bridge.Ready()
	f := fixture{l, master, bridge}
	options := lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master},
		Extra: map[string]any{"rejected_retry": true}}
	bridge.Phoenix("minions", "add", "web-1")
	minion := l.StartMinion(options)
	before := f.ran(t, minion, 1)
	minion.Stop()
	minion = l.StartMinion(options)
	var after fleet.Minion
	l.Eventually(within, "the rebuilt machine has its highstate", func() (bool, string) {
		after = bridge.Minions()["web-1"]
		return after.HighstateRan && after.KeySHA256 != before.KeySHA256, bridge.Phoenix("minions", "explain", "web-1")
	})
	minion.Answers(master)
	minion.Stop()
	l.StartMinion(options)
	l.Eventually(within, "the second one is refused", func() (bool, string) {
		out := bridge.Phoenix("minions", "explain", "web-1")
		return strings.Contains(out, "key not rebound") && strings.Contains(out, "rebind.limit: 1 key rebound"), out
	})
	if row := bridge.Minions()["web-1"]; row.KeySHA256 != after.KeySHA256 {
		t.Errorf("bound past the limit: %s", row.KeySHA256)
	}
	if out := bridge.Phoenix("minions", "explain", "web-1", "-n", "100"); strings.Count(out,
		"another key is denied key=") != 2 ||
		!strings.Contains(out, "key="+after.KeySHA256+" bound="+before.KeySHA256) {
		t.Errorf("the trail does not tell of both keys: %s", out)
	}
}

// A rebuilt machine whose minion has exited since its key was denied: its key is bound, and
// nothing says that it answers, though the first highstate of the former machine had
// failed a moment before. When it is started, it has its highstate. A rebind that begins
// before the machine is switched on ends when that one answers.
func TestRebuiltMachineHasExited(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
	bridge := l.NewBridge(lab.BridgeOptions{Master: master})
	master.Ready()
	bridge.Start()
	bridge.Ready()
	f := fixture{l, master, bridge}
	options := lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}, State: lab.State{Fail: -1}}
	bridge.Phoenix("minions", "add", "web-1")
	old := l.StartMinion(options)
	l.Eventually(within, "its highstate fails", func() (bool, string) {
		row := bridge.Minions()["web-1"]
		return row.ClaimState == fleet.Failed, fmt.Sprintf("%+v", row)
	})
	old.Kill()
	options.State = lab.State{}
	rebuilt := l.StartMinion(options)
	l.Eventually(within, "its key is denied", func() (bool, string) {
		return len(master.Denied()) == 1, fmt.Sprint(master.Denied(), master.Pending())
	})
	rebuilt.Kill() // Salt's minion exits by itself 10 to 20 s after it was denied
	out, stderr, code := bridge.Try("keys", "accept", "--rebind", "--yes", "--wait", "15s", "web-1")
	row := bridge.Minions()["web-1"]
	if code != 9 || strings.Contains(out, "answers") || !strings.Contains(stderr, "has not answered within 15s") ||
		!strings.Contains(stderr, "rejected_retry") ||
		row.ClaimState != fleet.Unclaimed {
		t.Errorf("exit %d, %s%s, row %+v", code, out, stderr, row)
	}
	rebuilt.Start()
	before := f.ran(t, rebuilt, 1)

	rebuilt.Kill()
	next := l.NewMinion(options)
	waits := make(chan string)
	go func() {
		out, stderr, code := bridge.Try("keys", "accept", "--rebind", "--yes", "--wait", within.String(), "web-1")
		waits <- fmt.Sprint(code, "\n", stderr, out)
	}()
	next.Start()
	l.Eventually(within, "its key is bound", func() (bool, string) {
		row := bridge.Minions()["web-1"]
		return row.KeySHA256 != before.KeySHA256, fmt.Sprint(row, master.Denied())
	})
	next.Kill()
	next.Start()
	if said := <-waits; !strings.HasPrefix(said, "0\n") ||
		!strings.Contains(said, "waiting for the next auth request of web-1") ||
		!strings.Contains(said, "web-1  answers: its first highstate is run again") {
		t.Error(said)
	}
	f.ran(t, next, 1)
	for _, line := range bridge.Grep("key needs an operator") {
		t.Errorf("our own deletion: %s", line)
	}
}
