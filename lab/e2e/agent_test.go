package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/lab"
)

// TestAgentFollowsTheLiving: a new minion comes to the masters by its agent, which
// knows them from the store alone. Then a master and its bridge are killed without
// a word: the agent takes the master off its minion's list, and the other master
// serves the minion; the first highstate has run once, and the operator's
// configuration is what it was.
func TestAgentFollowsTheLiving(t *testing.T) {
	t.Parallel()
	const version = lab.Salt3007
	l := lab.New(t)
	first := l.StartMaster(lab.MasterOptions{Version: version})
	first.Ready()
	second := l.StartMaster(lab.MasterOptions{Version: version, KeyFrom: first})
	second.Ready()
	bridges := map[string]*lab.Bridge{}
	for _, m := range []*lab.Master{first, second} {
		bridges[m.Addr] = l.StartBridge(lab.BridgeOptions{Master: m})
	}
	for _, b := range bridges {
		b.Ready()
	}
	bridges[first.Addr].Phoenix("minions", "add", "web-1")
	// It has never met a master, and at the address that it knows there is none.
	minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{first},
		Extra: map[string]any{"master": l.Addr()}})
	a := l.StartAgent(lab.AgentOptions{Minion: minion, Interval: 10 * time.Second})
	served := func() int { return len(minion.Grep("Minion is ready to receive requests!")) }
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(minion.ConfigPath()), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	configured := read("minion")

	l.Eventually(within, "the agent has written its list, and restarted the minion", func() (bool, string) {
		return len(a.Listed()) == 2 && a.Restarts() == 1 && served() > 0,
			fmt.Sprintf("%v, %d restarts\n%s", a.Listed(), a.Restarts(), a.Log())
	})
	masters := map[string]*lab.Master{first.Addr: first, second.Addr: second}
	lost, other := masters[a.Listed()[0]], masters[a.Listed()[1]]
	l.Eventually(within, "its first highstate ran", func() (bool, string) {
		row := bridges[other.Addr].Minions()["web-1"]
		return row.HighstateRan, fmt.Sprintf("%+v", row)
	})
	minion.Answers(lost)

	died, before := time.Now(), served()
	lost.Kill()
	bridges[lost.Addr].Kill()
	var took time.Duration
	l.Eventually(within, "the other master serves the minion", func() (bool, string) {
		took = time.Since(died)
		return served() > before, a.Log()
	})
	by := "by Salt's own failover"
	if a.Restarts() > 1 {
		by = "by the agent's restart"
	}
	t.Logf("Salt %s: %.1f s from the death of master and bridge to the minion served by the other, %s", version,
		took.Seconds(), by)
	l.Eventually(within, "the dead master is off the list, and the minion knows", func() (bool, string) {
		return slices.Equal(a.Listed(), []string{other.Addr}) && a.Restarts() == 2,
			fmt.Sprintf("%v, %d restarts\n%s", a.Listed(), a.Restarts(), a.Log())
	})
	t.Logf("%.1f s until it was off the list, and the minion restarted", time.Since(died).Seconds())
	minion.Answers(other)

	if schedule := read("minion.d/_schedule.conf"); strings.Contains(schedule, lost.Addr) ||
		!strings.Contains(schedule, "__master_alive_"+other.Addr) {
		t.Errorf("the schedule is not the other master's alone:\n%s", schedule)
	}
	if now := read("minion"); now != configured {
		t.Errorf("the minion's own configuration was changed:\n%s", now)
	}
	if minion.Runs() != 1 {
		t.Errorf("the highstate ran %d times: %+v", minion.Runs(), minion.RunLog())
	}
	l.Never(settle, "the minion is restarted once more", func() (bool, string) { return a.Restarts() != 2, a.Log() })
	a.Stop()
	if code := a.ExitCode(time.Second); code != 0 {
		t.Errorf("told to end, the agent ended with %d", code)
	}
}
