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
			l := lab.New(t)
			master := l.StartMaster(lab.MasterOptions{Version: version})
			bridge := l.NewBridge(lab.BridgeOptions{Master: master})
			master.Ready()
			bridge.Start()
			bridge.Ready()
			f := fixture{l, master, bridge}
			options := lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}, Extra: map[string]any{"rejected_retry": true}}
			bridge.Phoenix("minions", "add", "web-1")
			old := l.StartMinion(options)
			before := f.ran(t, old, 1)
			served := bridge.Phoenix("minions", "list", "--on", master.ID)
			if where := bridge.Phoenix("minions", "where", "web-1"); !strings.Contains(where, master.ID) || !strings.Contains(served, "web-1") {
				t.Errorf("which master serves it: %s%s", where, served)
			}
			if _, stderr, code := bridge.Try("keys", "accept", "--rebind", "--yes", "--wait", "1s", "web-1"); code == 0 || !strings.Contains(stderr, "no other key was seen") {
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
				if _, stderr, code := bridge.Try("keys", "accept", "--rebind", "web-1"); code != 2 || !strings.Contains(stderr, "--yes is needed") {
					t.Fatalf("nobody was asked: exit %d, %s", code, stderr)
				}
				out := bridge.Phoenix("keys", "accept", "--rebind", "--yes", "--wait", within.String(), "web-1")
				if !strings.Contains(out, before.KeySHA256) || !strings.Contains(out, way+" since ") || !strings.Contains(out, "answers") {
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
	bridge := l.NewBridge(lab.BridgeOptions{Master: master, Config: map[string]any{"rebind": map[string]any{"limit": 1}}})
	master.Ready()
	bridge.Start()
	bridge.Ready()
	f := fixture{l, master, bridge}
	options := lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}, Extra: map[string]any{"rejected_retry": true}}
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
	if out := bridge.Phoenix("minions", "explain", "web-1", "-n", "100"); strings.Count(out, "another key is denied key=") != 2 ||
		!strings.Contains(out, "key="+after.KeySHA256+" bound="+before.KeySHA256) {
		t.Errorf("the trail does not tell of both keys: %s", out)
	}
}
