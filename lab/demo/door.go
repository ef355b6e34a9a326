package main

import (
	"fmt"

	"phoenix/lab"
)

// whoIsLetIn: the key of a minion that is expected is accepted and its highstate
// run once, though the bridge is killed; that of another stays pending.
func (p *scenario) whoIsLetIn() {
	p.act("Who is let in")
	p.say("a master of Salt %s starts", version)
	master, bridge := p.master()
	master.Ready()
	p.say("the master answers at %s", master.RetEndpoint())

	// It is needed in the second act; its start is most of what that would wait for.
	p.master()

	bridge.Start()
	bridge.Ready()
	p.say("the bridge is ready: it reads the master's event bus, keys and fleet were compared")
	p.command(bridge, "minions", "add", "web-1")

	expected := p.lab.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
	unknown := p.lab.StartMinion(lab.MinionOptions{ID: "web-2", Masters: []*lab.Master{master}})
	p.say("two minions start: web-1, which is expected, and web-2, which is not")

	p.lab.Eventually(within, "the key of web-1 is accepted", func() (bool, string) {
		return master.HasAccepted("web-1"), fmt.Sprintf("pending %v", master.Pending())
	})
	p.say("web-1: the master has its key as accepted")
	p.lab.Eventually(within, "the highstate of web-1 begins", func() (bool, string) {
		return expected.Runs() > 0, bridge.Minions()["web-1"].ClaimJID
	})
	p.say("web-1: its highstate begins, as job %s: the state itself says so", expected.RunLog()[0].JID)
	p.lab.Eventually(within, "the highstate of web-1 is on record", func() (bool, string) {
		return bridge.Minions()["web-1"].HighstateRan, fmt.Sprintf("%+v", bridge.Minions()["web-1"])
	})
	row := bridge.Minions()["web-1"]
	p.say("web-1: highstate_ran is on record: job %s returned %d, run by %s", row.ClaimJID, *row.Retcode,
		row.HighstateRunner)

	bridge.Kill()
	bridge.Start()
	bridge.Ready()
	p.say("the bridge was killed with -9 and started again")
	p.lab.Eventually(within, "the key of web-2 is pending", func() (bool, string) {
		return len(master.Pending()) == 1, fmt.Sprint(master.Pending())
	})
	if runs, strange := expected.Runs(), unknown.Runs(); runs != 1 || strange != 0 || master.HasAccepted("web-2") {
		p.Fatalf("highstates: web-1 %d, web-2 %d; accepted: %v", runs, strange, master.Accepted())
	}
	p.say("web-1: its highstate ran once, as the state itself counts")
	p.say("web-2: its key is still pending, and no highstate ran. Why?")
	p.command(bridge, "minions", "explain", "web-2")
	unknown.Kill()
}
