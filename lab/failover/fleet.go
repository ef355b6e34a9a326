// Package failover kills masters under minions, and measures how long those are
// without one. Masters are on hosts of their own (network namespaces), so that
// their packets can vanish as well. It runs within [lab.Isolate].
package failover

import (
	"fmt"
	"slices"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/lab"
)

// within bounds each step on the way to a kill. Several Salts that start at once
// need many times what one does.
const within = 6 * time.Minute

// Fleet is two masters that share a key, with a bridge each, and minions with an
// agent each.
type Fleet struct {
	tb      lab.TB
	lab     *lab.Lab
	version string
	sides   []*side
	members []*member
	kills   int
}

// side is a master with what belongs to it.
type side struct {
	host     *lab.Host
	master   *lab.Master
	bridge   *lab.Bridge
	listener *lab.Listener
}

// member is a minion and its agent.
type member struct {
	*lab.Minion
	agent *lab.Agent
}

// New starts masters of that Salt, and so many minions.
func New(tb lab.TB, version string, minions int) *Fleet {
	tb.Helper()
	f := &Fleet{tb: tb, lab: lab.New(tb), version: version}
	for range 2 {
		s := &side{host: f.lab.NewHost()}
		o := lab.MasterOptions{Version: version, Host: s.host}
		if len(f.sides) > 0 {
			o.KeyFrom = f.sides[0].master
		}
		s.master = f.lab.StartMaster(o)
		s.master.Ready()
		s.listener = s.master.Listen()
		s.bridge = f.lab.StartBridge(lab.BridgeOptions{Master: s.master})
		s.bridge.Ready()
		f.sides = append(f.sides, s)
	}
	for i := range minions {
		f.members = append(f.members, f.join(fmt.Sprintf("web-%d", i+1), f.sides, lab.State{}))
	}
	for _, m := range f.members {
		m.agent = f.agent(m.Minion)
	}
	f.settle()
	f.ran(f.members)
	return f
}

// join starts a minion that prefers the first of these masters.
func (f *Fleet) join(id string, sides []*side, state lab.State) *member {
	f.tb.Helper()
	sides[0].bridge.Phoenix("minions", "add", id)
	var masters []*lab.Master
	for _, s := range sides {
		masters = append(masters, s.master)
	}
	return &member{Minion: f.lab.StartMinion(lab.MinionOptions{ID: id, Masters: masters, Failover: true, State: state})}
}

// agent starts one that reads the masters as seldom as by default.
func (f *Fleet) agent(m *lab.Minion) *lab.Agent {
	f.tb.Helper()
	return f.lab.StartAgent(lab.AgentOptions{Minion: m})
}

// settle waits until each minion runs with a list of both masters, and gives
// which of them serves whom.
func (f *Fleet) settle() map[*side][]*member {
	f.tb.Helper()
	f.lab.Eventually(within, "each minion runs with a list of both masters", func() (bool, string) {
		for _, m := range f.members {
			if listed := m.agent.Listed(); len(listed) != len(f.sides) || m.agent.Owed() {
				return false, fmt.Sprintf("%s lists %v\n%s", m.ID, listed, m.agent.Tail())
			}
		}
		return true, ""
	})
	ids := f.ids(f.members)
	for _, s := range f.sides {
		s.listener.Wait(ids...)
	}
	f.lab.Eventually(within, "each minion is served", func() (bool, string) {
		left := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return f.servedBy(id) != nil })
		return len(left) == 0, fmt.Sprintf("%v are not", left)
	})
	served := map[*side][]*member{}
	for _, m := range f.members {
		s := f.servedBy(m.ID)
		served[s] = append(served[s], m)
	}
	return served
}

// servedBy is the master that a minion answered last.
func (f *Fleet) servedBy(id string) (by *side) {
	var last time.Time
	for _, s := range f.sides {
		if at := s.listener.Heard()[id]; at.After(last) {
			by, last = s, at
		}
	}
	return by
}

func (f *Fleet) ids(members []*member) []string {
	var ids []string
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	return ids
}

// ran waits until the first highstates are on record, and checks by the states'
// own count that each was run once.
func (f *Fleet) ran(members []*member) {
	f.tb.Helper()
	f.lab.Eventually(within, "all first highstates are on record", func() (bool, string) {
		var rows map[string]fleet.Minion
		for _, s := range f.sides {
			if s.bridge.Alive() {
				rows = s.bridge.Minions()
				break
			}
		}
		for _, m := range members {
			if row := rows[m.ID]; !row.HighstateRan {
				return false, fmt.Sprintf("%+v; ran %+v", row, m.RunLog())
			}
		}
		return true, ""
	})
	for _, m := range members {
		if runs := m.RunLog(); len(runs) != 1 || !runs[0].OK {
			f.tb.Fatalf("the highstate of %s ran %d times: %+v", m.ID, len(runs), runs)
		}
	}
}
