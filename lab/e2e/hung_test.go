package e2e_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"phoenix/lab"
)

// TestG12_HungStateRun: somebody else's state run hangs on a minion. It is asked
// ever more seldom whether that run still runs, gets its first highstate again only
// once it has ended, and runs it then. A minute stands for ten, which "make long"
// takes. Without the question and its back-off it would be one publish each 11 s.
func TestG12_HungStateRun(t *testing.T) {
	t.Parallel()
	hang, most := time.Minute, 5
	if os.Getenv("PHOENIX_LONG") != "" {
		hang, most = 10*time.Minute, 12
	}
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
	// Its key first, with nothing sent to it.
	quiet := l.NewBridge(lab.BridgeOptions{Master: master, Config: map[string]any{"highstate.enabled": false}})
	bridge := l.NewBridge(lab.BridgeOptions{Master: master})
	master.Ready()
	quiet.Start()
	quiet.Ready()
	quiet.Phoenix("minions", "add", "web-1")
	minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master},
		State: lab.State{Seconds: hang.Seconds()}})
	minion.Answers(master)
	quiet.Stop()
	master.Run("salt", "--async", "web-1", "state.highstate")
	l.Eventually(within, "the state run that hangs has begun", func() (bool, string) {
		return minion.Runs() == 1, minion.Tail()
	})
	minion.Behave(lab.State{}) // from the next run on
	before := published(master)

	bridge.Start()
	bridge.Ready()
	l.Eventually(hang+within, "the state run has ended that hung", func() (bool, string) {
		runs := minion.RunLog()
		return runs[0].Ended, fmt.Sprintf("%+v", runs)
	})
	during := published(master) - before
	t.Logf("%d first highstates sent within %v", during, hang)
	if during == 0 || during > most {
		t.Errorf("sent %d times within %v, not 1 to %d:\n%s", during, hang, most, bridge.Tail())
	}
	l.Eventually(hang+within, "the highstate is on record", func() (bool, string) {
		row := bridge.Minions()["web-1"]
		return row.HighstateRan, fmt.Sprintf("%+v, runs %+v", row, minion.RunLog())
	})
	fixture{l, master, bridge}.still(t, minion, bridge.Minions()["web-1"], 2)
}

// published is how many highstates the master sent, whoever asked for them. It
// logs each (salt/master.py, publish).
func published(master *lab.Master) int { return len(master.Grep("Published command state.highstate")) }
