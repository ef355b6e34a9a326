package e2e_test

import (
	"syscall"
	"testing"

	"phoenix/bridge/agent"
	"phoenix/lab"
)

// TestStrandedMinion: a minion that hangs loses its connection as its only master is
// restarted. Its list is unchanged, and still its agent brings it back.
func TestStrandedMinion(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007})
	bridge := l.StartBridge(lab.BridgeOptions{Master: master})
	master.Ready()
	bridge.Ready()
	bridge.Phoenix("minions", "add", "web-1")
	m := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}, Failover: true})
	a := l.StartAgent(lab.AgentOptions{Minion: m, Interval: agent.MinInterval})
	l.Eventually(within, "its highstate is on record, and no restart is pending", func() (bool, string) {
		row := bridge.Minions()["web-1"]
		return row.HighstateRan && !a.Owed(), a.Log()
	})
	m.Answers(master)
	before := a.Restarts()
	m.Signal(syscall.SIGSTOP)
	master.Kill()
	master.Start()
	master.Ready()
	l.Eventually(within, "the agent restarts the minion",
		func() (bool, string) { return a.Restarts() > before, a.Log() })
	m.Answers(master)
	if n := m.Runs(); n != 1 {
		t.Errorf("its highstate ran %d times", n)
	}
	if n := a.Restarts() - before; n != 1 {
		t.Errorf("%d restarts\n%s", n, a.Log())
	}
}
