package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"phoenix/lab"
)

const (
	// agentInterval is the shortest that an agent takes; by default it reads the
	// masters once a minute.
	agentInterval = 5 * time.Second
	// watchedFor is how long at least the pings are watched after the death.
	watchedFor = 10 * time.Second
)

// Of the minions of the second act one follows two masters at once, the other one at a
// time.
const follower, single = "web-3", "web-4"

// aMasterDies: of two masters one is killed. A minion that follows both answers each
// ping; one that follows one at a time fails over. A third master starts in its place,
// and has their keys.
func (p *scenario) aMasterDies() {
	p.act("A master dies")
	p.masters[1].Ready()
	p.bridges[1].Start()
	p.bridges[1].Ready()
	p.say("a second master is ready, with the same key pair: at %s", p.masters[1].Addr)
	p.command(p.bridges[0], "minions", "add", follower, single)
	agents := map[string]*lab.Agent{follower: p.agent(follower, "2"), single: p.agent(single, "1")}
	p.say("\"phoenix agent\" starts beside two new minions: %s follows two masters at once, %s one at a time",
		follower, single)
	p.lab.Eventually(within, "the highstates of both are on record", func() (bool, string) {
		rows := p.bridges[0].Minions()
		return rows[follower].HighstateRan && rows[single].HighstateRan,
			fmt.Sprintf("%+v\n%s", rows, agents[follower].Tail())
	})
	p.say("the agents wrote the lists of masters and started the minions; their highstates ran")
	for id, a := range agents {
		if n := len(a.Listed()); n != 2 {
			p.Fatalf("%s lists %d masters\n%s", id, n, a.Tail())
		}
	}
	p.oneDies(agents)
}

// oneDies kills the master that serves the minion which follows one.
func (p *scenario) oneDies(agents map[string]*lab.Agent) {
	lost := slices.Index(p.masters, p.at(agents[single].Listed()[0]))
	dead, living := p.masters[lost], p.masters[1-lost]
	agents[single].Minion.Answers(dead)
	pings := living.Listen()
	answers := newAnswers(follower, single)
	pings.Follow(answers.add, follower, single)
	p.lab.Eventually(within, follower+" answers "+living.Name, func() (bool, string) {
		return answers.last(follower).After(time.Time{}), fmt.Sprint(pings.Err())
	})
	p.say("%s pings both every second; %s answers, as it is connected to both masters", living.Name, follower)

	dead.Kill()
	p.bridges[lost].Kill()
	died := answers.mark()
	p.say("%s and its bridge are killed with -9", dead.Name)
	third, warm := p.master()
	p.say("%s starts in its place, with an empty key store", third.Name)
	p.lab.Eventually(within, single+" answers "+living.Name, func() (bool, string) {
		return answers.last(single).After(died), agents[single].Tail()
	})
	p.say("%s, which follows one: it failed over, and answers %.1f s after the death", single,
		answers.first(single).Sub(died).Seconds())

	third.Ready()
	warm.Start()
	warm.Ready()
	if keys := third.Accepted(); len(keys) != len(agents)+1 || len(third.Pending()) > 0 {
		p.Fatalf("%s is ready and has %v as accepted", third.Name, keys)
	}
	p.say("%s is ready, and warm: it has the keys of %s, none of which ever asked it", third.Name,
		strings.Join(third.Accepted(), ", "))
	p.lab.Eventually(within, "the pings were watched for long enough", func() (bool, string) {
		return time.Since(died) > watchedFor, ""
	})
	var sent, answered int
	p.lab.Eventually(within, follower+" answers each ping", func() (bool, string) {
		sent, answered = pings.Pings(follower, died)
		return sent <= answered+1, fmt.Sprintf("%d of %d", answered, sent) // one may be on its way
	})
	p.say("%s, which follows two: it answered %d of the %d pings that %s sent since the death", follower, answered,
		sent, living.Name)
	p.listsFollow(agents, dead, third)
	for id, a := range agents {
		if runs := a.Minion.Runs(); runs != 1 {
			p.Fatalf("the highstate of %s ran %d times", id, runs)
		}
	}
	if restarts := agents[follower].Restarts(); restarts != 1 {
		p.Fatalf("%s was started %d times\n%s", follower, restarts, agents[follower].Log())
	}
	p.say("no highstate ran twice, as the states themselves count, and %s was not restarted", follower)
	p.say("masters list calls %s LATE 12 s after its last heartbeat, and STALE after 30 s (highstate.lease); no agent waits for that", dead.Name)
	p.command(warm, "masters", "list")
}

// listsFollow waits until no list names the dead master.
func (p *scenario) listsFollow(agents map[string]*lab.Agent, dead, third *lab.Master) {
	p.lab.Eventually(within, "no list names the dead master, and each names the third", func() (bool, string) {
		for _, a := range agents {
			if listed := a.Listed(); slices.Contains(listed, dead.Addr) || !slices.Contains(listed, third.Addr) {
				return false, fmt.Sprintf("%s lists %v\n%s", a.Minion.ID, listed, a.Tail())
			}
		}
		return true, ""
	})
	p.say("both lists name %s now, and no longer %s", third.Name, dead.Name)
}

// agent starts an agent beside a minion that has never run; the agent starts it.
func (p *scenario) agent(id, follow string) *lab.Agent {
	m := p.lab.NewMinion(lab.MinionOptions{ID: id, Masters: p.masters[:1]})
	return p.lab.StartAgent(lab.AgentOptions{Minion: m, Store: p.store.address, Config: p.store.config,
		Interval: agentInterval,
		// As by default: what can wait is not done within this scenario.
		Env: []string{"PHOENIX_AGENT_FOLLOW=" + follow, "PHOENIX_AGENT_SETTLE=6h"}})
}

func (p *scenario) at(address string) *lab.Master {
	i := slices.IndexFunc(p.masters, func(m *lab.Master) bool { return m.Addr == address })
	if i < 0 {
		p.Fatalf("no master is at %s", address)
	}
	return p.masters[i]
}
