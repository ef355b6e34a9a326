package e2e_test

import (
	"fmt"
	"strings"
	"testing"

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
