package e2e_test

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/lab"
)

const (
	// halfDeadMinions share two masters. Those of one move at a time.
	halfDeadMinions = 4
	// manyMoves are counted for each way to die by "make health"; else one round.
	manyMoves = 10
	// movedHalf and movedAll bound how long minions are without a master, in the
	// middle and at most.
	movedHalf = 30 * time.Second
	movedAll  = time.Minute
)

// TestMovesFromHalfDeadMaster: salt-master is killed, and stopped, while the bridge
// beside it lives. Its minions are served by the other master within half a minute
// (the median) and a minute (the longest). It comes back by itself, and no minion is
// moved a second time. The agents have their default intervals.
func TestMovesFromHalfDeadMaster(t *testing.T) {
	only(t, "health")
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			h := newHalfDead(t, version)
			h.ways(halfDeath{"killed", func(m *lab.Master) { m.Kill() }, func(m *lab.Master) { m.Start() }},
				halfDeath{"stopped", func(m *lab.Master) { m.Signal(syscall.SIGSTOP) },
					func(m *lab.Master) { m.Signal(syscall.SIGCONT) }})
		})
	}
}

// halfDeath is a way in which salt-master dies, and comes back.
type halfDeath struct {
	how       string
	end, back func(*lab.Master)
}

// halfDead is two masters with a bridge each, and minions with an agent each.
type halfDead struct {
	t         *testing.T
	version   string
	lab       *lab.Lab
	bridges   []*lab.Bridge
	listeners []*lab.Listener
	agents    map[string]*lab.Agent // by minion
	ids       []string
}

func newHalfDead(t *testing.T, version string) *halfDead {
	h := &halfDead{t: t, version: version, lab: lab.New(t), agents: map[string]*lab.Agent{}}
	var masters []*lab.Master
	for range 2 {
		o := lab.MasterOptions{Version: version}
		if len(masters) > 0 {
			o.KeyFrom = masters[0]
		}
		m := h.lab.StartMaster(o)
		m.Ready()
		b := h.lab.StartBridge(lab.BridgeOptions{Master: m})
		b.Ready()
		masters, h.bridges, h.listeners = append(masters, m), append(h.bridges, b), append(h.listeners, m.Listen())
	}
	for i := range halfDeadMinions {
		id := fmt.Sprintf("web-%d", i+1)
		h.bridges[0].Phoenix("minions", "add", id)
		m := h.lab.StartMinion(lab.MinionOptions{ID: id, Masters: masters, Failover: true})
		h.agents[id] = h.lab.StartAgent(lab.AgentOptions{Minion: m, Env: []string{"PHOENIX_AGENT_SETTLE=6h"}})
		h.ids = append(h.ids, id)
	}
	for _, l := range h.listeners {
		l.Wait(h.ids...)
	}
	h.lab.Eventually(within, "each minion has run its highstate, and lists both masters", func() (bool, string) {
		rows := h.bridges[0].Minions()
		for _, id := range h.ids {
			if !rows[id].HighstateRan || len(h.agents[id].Listed()) != 2 || h.on(id) < 0 {
				return false, fmt.Sprintf("%s: %+v, lists %v\n%s", id, rows[id], h.agents[id].Listed(),
					h.agents[id].Tail())
			}
		}
		return true, ""
	})
	return h
}

// on is the master that a minion answered; -1: it has answered none since the
// listeners began to wait.
func (h *halfDead) on(id string) int {
	for i, l := range h.listeners {
		if !l.Heard()[id].IsZero() {
			return i
		}
	}
	return -1
}

// ready reads what a bridge's row says, by the other bridge.
func (h *halfDead) ready(i int) bool {
	h.t.Helper()
	var rows []fleet.Master
	h.bridges[1-i].JSON(&rows, "masters", "list")
	k := slices.IndexFunc(rows, func(m fleet.Master) bool { return m.InstanceID == h.bridges[i].Master.ID })
	return k >= 0 && rows[k].Ready
}

// ways has masters die, in turn, and prints how long their minions were alone.
func (h *halfDead) ways(ways ...halfDeath) {
	h.t.Helper()
	for _, way := range ways {
		var took, unready []time.Duration
		for round := 1; ; round++ {
			moves, after := h.round(way)
			took, unready = append(took, moves...), append(unready, after)
			if !*allVersions || len(took) >= manyMoves {
				break
			}
		}
		slices.Sort(took)
		p50, most := took[len(took)/2], took[len(took)-1]
		h.t.Logf("%s, salt-master %s: not ready after %.0f s at most; %d moves, served by the other after %.1f s (p50), %.1f s (max)",
			h.version, way.how, slices.Max(unready).Seconds(), len(took), p50.Seconds(), most.Seconds())
		if slices.Max(unready) > unreadyWithin {
			h.t.Errorf("%s: not ready after %v", way.how, unready)
		}
		// Beside other tests the figures say how busy the machine is.
		if *allVersions && (p50 > movedHalf || most > movedAll) {
			h.t.Errorf("%s: minions were alone for too long: %v", way.how, took)
		}
	}
}

// round has the master die that serves most minions, and come back.
func (h *halfDead) round(way halfDeath) (took []time.Duration, unready time.Duration) {
	t := h.t
	t.Helper()
	for _, l := range h.listeners {
		l.Wait(h.ids...)
	}
	h.lab.Eventually(within, "each minion is served", func() (bool, string) {
		left := slices.DeleteFunc(slices.Clone(h.ids), func(id string) bool { return h.on(id) >= 0 })
		return len(left) == 0, fmt.Sprint(left)
	})
	served := [2][]string{}
	for _, id := range h.ids {
		served[h.on(id)] = append(served[h.on(id)], id)
	}
	dead := 0
	if len(served[1]) > len(served[0]) {
		dead = 1
	}
	living, orphans := h.listeners[1-dead], served[dead]
	restarts := map[string]int{}
	for id, a := range h.agents {
		restarts[id] = a.Restarts()
	}
	living.Wait(orphans...)
	master := h.bridges[dead].Master
	way.end(master)
	ended := time.Now()
	h.lab.Eventually(within, "not ready, and its minions are served by the other", func() (bool, string) {
		if unready == 0 && !h.ready(dead) {
			unready = time.Since(ended)
		}
		heard := living.Heard()
		return unready > 0 && len(heard) == len(orphans),
			fmt.Sprintf("row not ready after %v, %v of %v; %s", unready, heard, orphans, h.agents[orphans[0]].Tail())
	})
	for id, at := range living.Heard() {
		by := "Salt's own failover"
		if h.agents[id].Restarts() > restarts[id] {
			by = "its agent"
		}
		t.Logf("%s, %s: %s was served by the other after %.1f s, by %s", h.version, way.how, id,
			at.Sub(ended).Seconds(), by)
		took = append(took, at.Sub(ended))
	}
	way.back(master)
	h.lab.Eventually(within, "the master is ready again by itself",
		func() (bool, string) { return h.ready(dead), h.bridges[dead].Tail() })
	h.lab.Eventually(within, "it is on all lists again", func() (bool, string) {
		for _, a := range h.agents {
			if len(a.Listed()) != 2 {
				return false, fmt.Sprintf("%v\n%s", a.Listed(), a.Tail())
			}
		}
		return true, ""
	})
	// A minion that Salt moved by itself may be restarted once, for its list.
	again := h.listeners[dead]
	again.Wait(h.ids...)
	living.Wait(h.ids...)
	h.lab.Never(10*time.Second, "a minion was moved twice", func() (bool, string) {
		for _, id := range orphans {
			if n := h.agents[id].Restarts() - restarts[id]; n > 1 || !again.Heard()[id].IsZero() {
				return true, fmt.Sprintf("%s was restarted %d times\n%s", id, n, h.agents[id].Log())
			}
		}
		return false, ""
	})
	for id, a := range h.agents {
		if a.Minion.Runs() != 1 {
			t.Errorf("%s: %s ran its highstate %d times", way.how, id, a.Minion.Runs())
		}
	}
	return took, unready
}
