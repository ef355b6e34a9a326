package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"phoenix/lab"
)

// mastersMayDie: minions are spread over two masters, one of which is killed.
// Its minions follow to the other, a third master takes its place, and a minion
// that nobody has met before gets its highstate there.
func (p *scenario) mastersMayDie() {
	p.act("Masters may die")
	second, bridge := p.master()
	second.Ready()
	bridge.Start()
	bridge.Ready()
	p.say("a second master is ready, with the same key pair: at %s", second.Addr)

	p.command(p.bridges[0], "minions", "add", "web-3", "web-4")
	minions := []*lab.Minion{p.web1}
	for _, id := range []string{"web-3", "web-4"} {
		minions = append(minions, p.lab.StartMinion(lab.MinionOptions{ID: id, Masters: p.masters[:1], Failover: true}))
	}
	// The agents restart their minions, as they know one master only. One whose highstate
	// a restart cuts off gets it again, but only once it is sure that it was lost: a
	// minute or more that the demo does not wait for.
	p.lab.Eventually(within, "the highstates of web-3 and web-4 are on record", func() (bool, string) {
		rows := bridge.Minions()
		return rows["web-3"].HighstateRan && rows["web-4"].HighstateRan, fmt.Sprintf("%+v", rows)
	})
	p.say("web-3 and web-4: their keys were accepted and their highstates ran")
	var agents []*lab.Agent
	for _, m := range minions {
		agents = append(agents, p.agent(m))
	}
	p.say("\"phoenix agent\" starts beside each of the three: it keeps the minion's list of masters")
	p.lab.Eventually(within, "each minion is restarted with a list of two masters", func() (bool, string) {
		for i, a := range agents {
			if len(a.Listed()) != 2 || a.Restarts() == 0 {
				return false, fmt.Sprintf("%s lists %v\n%s", minions[i].ID, a.Listed(), a.Tail())
			}
		}
		return true, ""
	})
	of := map[string][]string{} // minions by master
	for i, a := range agents {
		minions[i].Answers(p.at(a.Listed()[0]))
		of[a.Listed()[0]] = append(of[a.Listed()[0]], minions[i].ID)
	}
	for _, m := range p.masters {
		p.say("%s serves %s", m.Name, strings.Join(of[m.Addr], ", "))
	}

	p.oneDies(agents, of)
}

// oneDies kills the master that serves most, and brings a third.
func (p *scenario) oneDies(agents []*lab.Agent, of map[string][]string) {
	lost := 0
	if len(of[p.masters[1].Addr]) > len(of[p.masters[0].Addr]) {
		lost = 1
	}
	dead, living := p.masters[lost], p.masters[1-lost]
	orphans := of[dead.Addr]
	listener := living.Listen()
	listener.Wait(orphans...)
	died := time.Now()
	dead.Kill()
	p.bridges[lost].Kill()
	p.say("%s and its bridge are killed with -9, without a word to anybody", dead.Name)
	third, warm := p.master()
	p.say("%s starts in its place, with an empty key store", third.Name)
	p.lab.Eventually(within, "the other master serves the minions of the dead one", func() (bool, string) {
		return len(listener.Heard()) == len(orphans), fmt.Sprint(listener.Heard(), listener.Err())
	})
	for id, at := range listener.Heard() {
		p.say("%s answers %s, %.0f s after the death of its own", id, living.Name, at.Sub(died).Seconds())
	}
	third.Ready()
	if known := third.Accepted(); len(known) > 0 {
		p.Fatalf("%s knows %v", third.Name, known)
	}
	warm.Start()
	warm.Ready()
	keys := third.Accepted()
	if len(keys) != len(agents) || len(third.Pending()) > 0 {
		p.Fatalf("%s is ready and has %v as accepted", third.Name, keys)
	}
	p.say("%s is ready, and warm: it has the keys of %s, none of which has asked it for anything", third.Name, strings.Join(keys, ", "))
	p.newcomer(third, warm)

	want := []string{living.Addr, third.Addr}
	slices.Sort(want)
	p.lab.Eventually(within, "the lists of all three name the masters that live", func() (bool, string) {
		for _, a := range agents {
			listed := a.Listed()
			if slices.Sort(listed); !slices.Equal(listed, want) {
				return false, fmt.Sprintf("%s lists %v\n%s", a.Minion.ID, listed, a.Tail())
			}
		}
		return true, ""
	})
	p.say("the lists of all three name %s and %s, and no longer %s", living.Name, third.Name, dead.Name)
	for _, a := range agents {
		if a.Minion.Runs() != 1 {
			p.Fatalf("the highstate of %s ran %d times", a.Minion.ID, a.Minion.Runs())
		}
	}
	p.say("no highstate ran twice, as the states themselves count")
	p.command(warm, "masters", "list")
}

// newcomer: the third master lets a new minion in, and runs its highstate.
func (p *scenario) newcomer(third *lab.Master, bridge *lab.Bridge) {
	p.command(bridge, "minions", "add", "web-5")
	minion := p.lab.StartMinion(lab.MinionOptions{ID: "web-5", Masters: []*lab.Master{third}})
	p.say("a new minion, web-5, starts and turns to %s", third.Name)
	p.lab.Eventually(within, "the highstate of web-5 is on record", func() (bool, string) {
		row := bridge.Minions()["web-5"]
		return row.HighstateRan, fmt.Sprintf("%+v", row)
	})
	row := bridge.Minions()["web-5"]
	if minion.Runs() != 1 || row.HighstateRunner != third.ID {
		p.Fatalf("web-5 ran %+v; on record is %+v", minion.RunLog(), row)
	}
	p.say("web-5: its key was accepted and its highstate ran once, run by %s", row.HighstateRunner)
	p.command(bridge, "minions", "list")
}

// agentInterval is the shortest that an agent takes; by default it reads the
// masters once a minute.
const agentInterval = 5 * time.Second

func (p *scenario) agent(m *lab.Minion) *lab.Agent {
	return p.lab.StartAgent(lab.AgentOptions{Minion: m, Store: p.store.address, Config: p.store.config, Interval: agentInterval})
}

func (p *scenario) at(address string) *lab.Master {
	i := slices.IndexFunc(p.masters, func(m *lab.Master) bool { return m.Addr == address })
	if i < 0 {
		p.Fatalf("no master is at %s", address)
	}
	return p.masters[i]
}
