package failover

import (
	"fmt"
	"slices"
	"time"

	"phoenix/lab"
)

// How a master dies.
type How string

const (
	// Killed: kill -9 of master and bridge; the kernel closes their connections.
	Killed How = "kill -9"
	// Vanished: packets from and to the master are lost, and no connection is
	// closed. Its bridge is killed: the store is a file here, not over the network.
	Vanished How = "packets vanish"
)

// newcomerState goes on for a while after its master has died in the middle of it.
var newcomerState = lab.State{Hold: true, Seconds: 8}

// Move is what the death of its master was to one minion.
type Move struct {
	How       How
	Minion    string
	Took      time.Duration // from the death to the first ping that it answered the other master
	Restarted bool          // by its agent; else Salt's own failover was quicker
}

// Kill lets the master die that serves most minions, while the first highstate of
// a new one runs, waits until all are served by the other, and brings the dead one
// back. It gives the moves of those that were there before, after checks that the
// highstate of the new one was run once.
func (f *Fleet) Kill(how How) []Move {
	f.tb.Helper()
	served := f.settle()
	dead, living := f.sides[0], f.sides[1]
	if len(served[living]) > len(served[dead]) {
		dead, living = living, dead
	}
	orphans := served[dead]
	f.kills++
	newcomer := f.join(fmt.Sprintf("new-%d", f.kills), []*side{dead, living}, newcomerState)
	f.lab.Eventually(within, "the first highstate of "+newcomer.ID+" has begun", func() (bool, string) {
		return newcomer.Runs() == 1, newcomer.Tail()
	})
	newcomer.agent = f.agent(newcomer.Minion)

	restarts := map[string]int{}
	for _, m := range orphans {
		restarts[m.ID] = m.agent.Restarts()
	}
	waiting := append(slices.Clone(orphans), newcomer)
	living.listener.Wait(f.ids(waiting)...)
	died := f.die(dead, how)
	newcomer.Release()
	f.lab.Eventually(within, "the other master serves all minions of the dead one", func() (bool, string) {
		heard := living.listener.Heard()
		i := slices.IndexFunc(waiting, func(m *member) bool { return heard[m.ID].IsZero() })
		if i < 0 {
			return true, ""
		}
		return false, fmt.Sprintf("%s does not answer (%v)\n%s", waiting[i].ID, living.listener.Err(),
			waiting[i].agent.Log())
	})
	var moves []Move
	for id, at := range living.listener.Heard() {
		i := slices.IndexFunc(orphans, func(m *member) bool { return m.ID == id })
		if i >= 0 {
			moves = append(moves, Move{how, id, at.Sub(died), orphans[i].agent.Restarts() > restarts[id]})
		}
	}
	f.revive(dead, how)
	f.ran([]*member{newcomer})
	f.ran(f.members)
	newcomer.agent.Kill()
	newcomer.Kill()
	return moves
}

func (f *Fleet) die(s *side, how How) (died time.Time) {
	f.tb.Helper()
	died = time.Now()
	if how == Vanished {
		s.host.Vanish()
	} else {
		s.master.Kill()
	}
	s.bridge.Kill()
	return died
}

// revive brings the dead master back. Agents are started anew: they read the
// masters at their start, and nobody has to wait for their next reading.
func (f *Fleet) revive(s *side, how How) {
	f.tb.Helper()
	if how == Vanished {
		s.host.Return()
	} else {
		s.master.Start()
	}
	s.master.Ready()
	s.bridge.Start()
	s.bridge.Ready()
	for _, m := range f.members {
		m.agent.Stop()
		m.agent.Start()
	}
}
