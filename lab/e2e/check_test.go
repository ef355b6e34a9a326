package e2e_test

import (
	"strings"
	"testing"

	"phoenix/lab"
)

// A minion has one master in its configuration and no agent. Another master serves, and
// still a restart of its own is not called safe: before the drain and after it the minion is
// connected. Once salt-master is stopped, a start is what is needed, and the bridge's log
// says once that work is delayed.
func TestCheckOfMasterWithoutAgents(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			first := l.StartMaster(lab.MasterOptions{Version: version})
			first.Ready()
			second := l.StartMaster(lab.MasterOptions{Version: version, KeyFrom: first})
			second.Ready()
			one, two := l.StartBridge(lab.BridgeOptions{Master: first}),
				l.StartBridge(lab.BridgeOptions{Master: second})
			one.Ready()
			two.Ready()
			one.Phoenix("minions", "add", "web-1")
			fixture{l, first, one}.ran(t, l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{first}}),
				1)
			check := func(code int, want ...string) {
				t.Helper()
				l.Eventually(within, "masters check says "+strings.Join(want, ", "), func() (bool, string) {
					out, stderr, got := one.Try("masters", "check")
					for _, text := range want {
						if !strings.Contains(out, text) {
							return false, out + stderr
						}
					}
					return got == code, out + stderr
				})
			}
			check(1, "safe only for minions that have an agent or several masters", "1 minion connected",
				"can move to "+second.ID)
			one.Phoenix("masters", "drain", "--self")
			check(1, "not known to be safe yet", "1 minion still connected", "draining")
			if out := one.Phoenix("masters", "list"); !strings.Contains(out, "ready, draining") {
				t.Errorf("masters list: %s", out)
			}
			one.Phoenix("masters", "drain", "--self", "--undo")
			one.Phoenix("highstate", "run", "web-1")
			first.Stop()
			check(1, "needed: the master does not serve now", "not known")
			if out, _, code := one.Try("doctor"); code != 1 || strings.Contains(out, "unknown version") {
				t.Errorf("doctor: exit %d: %s", code, out)
			}
			first.Start()
			first.Ready()
			one.Ready()
			l.Eventually(within, "it ran again", func() (bool, string) {
				row := one.Minions()["web-1"]
				return row.HighstateRan && row.ClaimVersion > 2, one.Tail()
			})
			log := one.Log()
			for _, text := range []string{`msg="work delayed" stage=highstates`,
				`msg="work continues" stage=highstates`} {
				if n := strings.Count(log, text); n > 1 {
					t.Errorf("%d times %s:\n%s", n, text, log)
				}
			}
		})
	}
}
