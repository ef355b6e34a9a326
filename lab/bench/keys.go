package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"phoenix/bridge/salt"
	"phoenix/lab"
)

const (
	// singles is how often one key is measured each way.
	singles = 25
	// crowdRounds is how often a crowd is, and crowd how many auth requests come at once.
	crowdRounds = 5
	crowd       = 200
	// crowdWithin bounds a crowd's acceptance: some 2 s.
	crowdWithin = 2 * time.Minute
	// quiet lets the bridge look at the last event.
	quiet = 200 * time.Millisecond
	// compared: the bridge compares all at its start, and again five seconds later.
	compared = 10 * time.Second
	// caughtUp: a bridge that was stopped reads what it missed.
	caughtUp = time.Second
)

// keyAccepted is what the bridge logs of each key, with the answer to its call.
const keyAccepted = `msg="key accepted"`

// accepting is what keys are accepted with: a master with a bridge, and one that
// does it the way of 2015. Both look minions up in the same roster.
type accepting struct {
	s *runner
	*roster
	master *lab.Master
	events *events
	bridge *lab.Bridge
	client *salt.Master
	old    *baseline2015
}

// keys measures how keys are accepted.
func keys(s *runner, t *table) {
	ctx, cancel := context.WithCancel(context.Background())
	s.Cleanup(cancel)
	l := lab.New(s)
	a := &accepting{s: s, roster: newRoster(s, l),
		master: l.StartMaster(lab.MasterOptions{Version: version, Workers: 3})}
	a.old = startBaseline2015(s, l, a.roster)
	a.master.Ready()
	a.events, a.client = listen(ctx, s, a.master), wheel(s, a.master)
	a.bridge = l.NewBridge(lab.BridgeOptions{Master: a.master, Store: a.store(), Config: map[string]any{
		// There is no minion behind the keys: a ping after them is for nobody.
		"highstate.enabled": false,
	}})
	a.old.ready(ctx)
	a.single(ctx, t)
	// Who looks for one minion in all of them is the slower the more there are.
	for _, rows := range []int{1_000, 10_000} {
		a.grow(rows, a.master, a.old.master)
		a.crowds(ctx, t, rows)
	}
}

// single measures one key at a time. Ours: from the event that says it is
// pending to the one that says it is accepted, and all between is the bridge's.
// The bare call: from the call to the same event.
func (a *accepting) single(ctx context.Context, t *table) {
	expected, unknown := ids("one", singles), ids("unknown", singles)
	a.expect(expected)
	a.bridge.Start()
	a.bridge.Ready()
	var ours, bare []time.Duration
	for i := range singles {
		one := expected[i : i+1]
		requestAuth(a.s, a.master, one)
		accepted := a.accepted(one, perKey)
		pended, _ := a.events.last(a.events.pending, one)
		ours = append(ours, accepted.Sub(pended))
		time.Sleep(quiet)

		one = unknown[i : i+1]
		requestAuth(a.s, a.master, one)
		if _, unseen := a.events.wait(a.events.pending, one, perKey); unseen > 0 {
			a.s.Fatalf("%s did not become pending within %v", one[0], perKey)
		}
		time.Sleep(quiet)
		begun := time.Now()
		a.s.check(a.client.Accept(ctx, one))
		bare = append(bare, a.accepted(one, perKey).Sub(begun))
		time.Sleep(quiet)
	}
	a.bridge.Stop()
	a.s.Logf("one key: ours %s; bare call %s", spread(ours), spread(bare))
	t.atMost("one key, event to acceptance, against the bare call", median(ours), median(bare), 1.25)
}

// crowds measures many keys at once, each way from the first auth request to the last
// acceptance, by turns: the bridge; the master's floor, which is the same requests
// with the bridge stopped, and then one call; and the way of 2015. The fleet has
// so many rows.
func (a *accepting) crowds(ctx context.Context, t *table, rows int) {
	var ours, floor, old []time.Duration
	var oldTook time.Duration
	a.bridge.Start()
	a.bridge.Ready()
	time.Sleep(compared)
	for round := range crowdRounds {
		name := func(way string) []string { return ids(fmt.Sprintf("%s-%d-%d", way, rows, round), crowd) }
		expected, unknown := name("crowd"), name("floor")
		a.expect(expected)
		done := strings.Count(a.bridge.Log(), keyAccepted)
		begun := requestAuth(a.s, a.master, expected)
		ours = append(ours, a.accepted(expected, crowdWithin).Sub(begun))
		// The call that accepts goes on after the last event: Salt matches each id
		// with all that are accepted (dict_match in salt/key.py).
		lab.Eventually(a.s, crowdWithin, "the bridge has its answer", func() (bool, string) {
			n := strings.Count(a.bridge.Log(), keyAccepted) - done
			return n >= crowd, fmt.Sprint(n)
		})

		a.bridge.Signal(syscall.SIGSTOP)
		begun = requestAuth(a.s, a.master, unknown)
		asked := time.Since(begun)
		a.s.check(a.client.Accept(ctx, unknown))
		floor = append(floor, a.accepted(unknown, crowdWithin).Sub(begun))
		a.bridge.Signal(syscall.SIGCONT)
		time.Sleep(caughtUp)

		a.s.Logf("%d keys, fleet of %d, round %d of %d: ours %s; floor %s, of which the requests %s", crowd, rows,
			round+1, crowdRounds,
			show(ours[round]), show(floor[round]), show(asked))
		if round < oldRounds && oldTook < oldFor && len(old) == round {
			took, ok := a.old.crowd(name("old"))
			oldTook += took
			if ok {
				old = append(old, took)
			}
		}
	}
	a.bridge.Stop()
	what := fmt.Sprintf("%d keys, fleet of %d, against ", crowd, rows)
	t.atMost(what+"the requests and one call", median(ours), median(floor), 1.3)
	if len(old) == 0 {
		t.note(what+"the way of 2015", show(median(ours)), fmt.Sprintf("> %v", giveUp))
		return
	}
	t.atLeast(what+"the way of 2015", median(ours), median(old), 25)
	t.compare("  the requests and one call, against the way of 2015", median(floor), median(old))
}

// accepted waits until the bridge's master has accepted all, and gives the time
// of the last.
func (a *accepting) accepted(ids []string, within time.Duration) time.Time {
	last, missing := a.events.wait(a.events.accepted, ids, within)
	if missing > 0 {
		a.s.Fatalf("%d of %d keys (%s, …) were not accepted within %v", missing, len(ids), ids[0], within)
	}
	return last
}
