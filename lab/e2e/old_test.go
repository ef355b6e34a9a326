package e2e_test

import (
	"fmt"
	"slices"
	"testing"

	"phoenix/lab"
)

// TestOldPatches: a minion's life on the oldest patches that people still run. All
// else runs on the newest.
func TestOldPatches(t *testing.T) {
	t.Parallel()
	for _, version := range lab.OldVersions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			master := l.StartMaster(lab.MasterOptions{Version: version})
			bridge := l.NewBridge(lab.BridgeOptions{Master: master})
			master.Ready()
			bridge.Start()
			bridge.Ready()
			bridge.Phoenix("minions", "add", "web-1")
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
			f := fixture{l, master, bridge}
			f.ran(t, minion, 1)
			minion.Restart()
			minion.Answers(master)
			l.Never(settle, "another highstate began after the minion's restart", func() (bool, string) {
				return minion.Runs() != 1, fmt.Sprintf("%+v", minion.RunLog())
			})

			bridge.Phoenix("minions", "retire", "web-1")
			l.Eventually(within, "the retired minion's key is gone", func() (bool, string) {
				accepted := master.Accepted()
				return !slices.Contains(accepted, "web-1"), fmt.Sprint(accepted)
			})
		})
	}
}
