package e2e_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"phoenix/bridge/salt"
	"phoenix/lab"
)

// With transport tcp a key is accepted, the first highstate runs once, a terminated
// minion's key is deleted, and the agent tells a master that serves from one that is
// stopped, whose kernel still takes connections.
func TestTransportTCP(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			tcp := map[string]any{"transport": salt.TCP}
			master := l.StartMaster(lab.MasterOptions{Version: version, Extra: tcp})
			bridge := l.StartBridge(lab.BridgeOptions{Master: master}) // it waits for the master
			bridge.Ready()
			bridge.Phoenix("minions", "add", "web-1")
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}, Extra: tcp})
			f := fixture{l, master, bridge}
			f.ran(t, minion, 1)
			if where := bridge.Phoenix("minions", "where", "web-1"); !strings.Contains(where, master.ID) {
				t.Errorf("where is it: %s", where)
			}

			agent := l.StartAgent(lab.AgentOptions{Minion: minion})
			said := func(want string) {
				t.Helper()
				binary, err := lab.Binary()
				if err != nil {
					t.Fatal(err)
				}
				l.Eventually(within, "the agent says that the master "+want, func() (bool, string) {
					out, err := exec.Command(binary, "--config", agent.ConfigPath(), "agent",
						"--dry-run").CombinedOutput()
					return err == nil && strings.Contains(string(out), master.Addr+", "+want), string(out)
				})
			}
			said("answers")
			master.Signal(syscall.SIGSTOP)
			said("does not answer")
			master.Signal(syscall.SIGCONT)
			said("answers")
			if faults := append(master.Grep("[ERROR"), master.Grep("Traceback")...); len(faults) > 0 {
				t.Errorf("the master complains: %s", strings.Join(faults, "\n"))
			}
			agent.Stop()

			bridge.Phoenix("minions", "retire", "web-1")
			l.Eventually(within, "its key is deleted", func() (bool, string) {
				return !master.HasAccepted("web-1"), bridge.Tail()
			})
			_, stderr, code := bridge.Try("--relay-listen", ":4507", "--socket",
				filepath.Join(t.TempDir(), "s"), "bridge")
			if code != 2 || !strings.Contains(stderr, "relay.listen") || !strings.Contains(stderr, "tcp") {
				t.Errorf("with the relay: exit %d, %s", code, stderr)
			}
		})
	}
}
