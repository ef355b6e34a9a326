package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/lab"
)

// takeover bounds a takeover: the lease, and after it up to three questions to
// the minion, each later than the one before (15, 30 and 60 s), with time to spare
// on a busy machine.
const takeover = 6 * time.Minute

// lease is the shortest that the configuration allows.
const lease = 20 * time.Second

// TestG1_HotMasters: two masters share one key and one fleet, and each minion is
// connected to both. The bridge keeps no state that one version of Salt changes,
// so one does.
func TestG1_HotMasters(t *testing.T) {
	t.Parallel()
	const version = lab.Salt3007
	l := lab.New(t)
	first := l.StartMaster(lab.MasterOptions{Version: version})
	first.Ready()
	second := l.StartMaster(lab.MasterOptions{Version: version, KeyFrom: first})
	config := map[string]any{"highstate": map[string]any{"lease": lease.String()}}
	bridges := []*lab.Bridge{
		l.NewBridge(lab.BridgeOptions{Master: first, Config: config}),
		l.NewBridge(lab.BridgeOptions{Master: second, Config: config}),
	}
	second.Ready()
	for _, b := range bridges {
		b.Start()
	}
	for _, b := range bridges {
		b.Ready()
	}
	h := hot{l, bridges[0], bridges[1]}
	t.Run("both want to run it", h.race)
	t.Run("owner killed in the middle of it", h.kill)
}

type hot struct {
	lab           *lab.Lab
	owner, spared *lab.Bridge // which is to die, and which is not
}

// start starts minions that are connected to both masters.
func (h hot) start(states map[string]lab.State) []*lab.Minion {
	var minions []*lab.Minion
	for id, s := range states {
		h.spared.Phoenix("minions", "add", id)
		minions = append(minions, h.lab.StartMinion(lab.MinionOptions{
			ID: id, Masters: []*lab.Master{h.owner.Master, h.spared.Master}, State: s}))
	}
	return minions
}

// ranOnce waits until the minions' highstates are on record, and compares that
// with what the state itself counted. It returns the rows.
func (h hot) ranOnce(t *testing.T, timeout time.Duration, minions []*lab.Minion) map[string]fleet.Minion {
	t.Helper()
	var rows map[string]fleet.Minion
	h.lab.Eventually(timeout, "all highstates are on record", func() (bool, string) {
		rows = h.spared.Minions()
		left := slices.ContainsFunc(minions, func(m *lab.Minion) bool { return !rows[m.ID].HighstateRan })
		return !left, fmt.Sprintf("%+v\n%s", rows, h.spared.Phoenix("highstate", "list"))
	})
	for _, m := range minions {
		runs, row := m.RunLog(), rows[m.ID]
		if len(runs) != 1 || !runs[0].OK || runs[0].JID != row.ClaimJID || row.Attempt != 1 || row.Retcode == nil ||
			*row.Retcode != 0 {
			t.Errorf("%s ran %+v; on record is %+v", m.ID, runs, row)
		}
	}
	return rows
}

// race: both bridges see each minion come.
func (h hot) race(t *testing.T) {
	h.lab.In(t)
	minions := h.start(map[string]lab.State{"web-1": {}, "web-2": {}})
	h.ranOnce(t, within, minions)
	for _, m := range minions {
		m.Answers(h.owner.Master)
		m.Answers(h.spared.Master)
	}
	h.lab.Never(settle, "another highstate began", func() (bool, string) {
		for _, m := range minions {
			if m.Runs() != 1 {
				return true, fmt.Sprintf("%s: %+v", m.ID, m.RunLog())
			}
		}
		return false, ""
	})
	h.ranOnce(t, within, minions)
}

// kill: master and bridge that started two highstates die at once. One of them
// ends before anybody can take over, and its return is lost; the other one still
// runs then.
func (h hot) kill(t *testing.T) {
	h.lab.In(t)
	h.spared.Stop() // who claims is not left to chance
	minions := h.start(map[string]lab.State{"db-1": {Hold: true, Seconds: 5}, "db-2": {Hold: true, Seconds: 30}})
	h.lab.Eventually(within, "both highstates have begun", func() (bool, string) {
		return minions[0].Runs() == 1 && minions[1].Runs() == 1, fmt.Sprintf("%+v", h.spared.Minions())
	})
	h.owner.Kill()
	h.owner.Master.Kill()
	died := time.Now()
	for _, m := range minions {
		m.Release()
	}
	h.spared.Start()
	rows := h.ranOnce(t, takeover, minions)
	t.Logf("both on record %.0f s after the death of their master; db-2 ran for 30 s of it", time.Since(died).Seconds())
	for _, m := range minions {
		if row := rows[m.ID]; row.HighstateRunner != h.spared.Master.ID || row.ClaimOwner != h.spared.Master.ID {
			t.Errorf("%s is on record of %s, not of the survivor: %+v", m.ID, row.HighstateRunner, row)
		}
	}
}
