package main

import (
	"context"
	"fmt"
	"time"

	"phoenix/lab"
)

const (
	// singles is how often one key is measured each way.
	singles = 25
	// crowdRounds is how often a crowd is, and crowd how many knock at once.
	crowdRounds = 5
	crowd       = 200
	// crowdWithin bounds a crowd's acceptance: some 2 s.
	crowdWithin = 2 * time.Minute
	// quiet lets the bridge finish what the last event made it look at.
	quiet = 200 * time.Millisecond
)

// keys measures how keys are accepted, on a master with the bridge, and then on
// one with the way of 2015. Both look minions up in the same file.
func keys(s *stage, t *table) {
	ctx, cancel := context.WithCancel(context.Background())
	s.Cleanup(cancel)
	l := lab.New(s)
	f := newFleet(s, l)
	master := l.StartMaster(lab.MasterOptions{Version: version})
	master.Ready()
	events := listen(ctx, s, master)
	bridge := l.NewBridge(lab.BridgeOptions{Master: master, Store: f.store(), Config: map[string]any{
		// There is no minion behind the keys: a ping after them is for nobody.
		"highstate.enabled": false,
	}})
	single(ctx, s, t, f, master, bridge, events)
	ours := crowds(ctx, s, t, f, master, bridge, events)
	master.Stop()
	way2015(ctx, s, t, f, l, ours)
}

// single measures one key at a time. Ours: from the event that says it is
// pending to the one that says it is accepted, and all between is the bridge's.
// The bare call: from the call to the same event.
func single(ctx context.Context, s *stage, t *table, f *newcomers, master *lab.Master, bridge *lab.Bridge, e *events) {
	expected, strangers := f.ids("one", singles), f.ids("stranger", singles)
	f.expect(expected)
	bridge.Start()
	bridge.Ready()
	client := wheel(s, master)
	var ours, bare []time.Duration
	for i := range singles {
		one := expected[i : i+1]
		knock(s, master, one)
		at, missing := e.wait(e.accepted, one, perKey)
		pended, unseen := e.last(e.pending, one)
		if missing+unseen > 0 {
			s.Fatalf("%s was not accepted within %v\n%s", one[0], perKey, bridge.Tail())
		}
		ours = append(ours, at.Sub(pended))
		time.Sleep(quiet)

		one = strangers[i : i+1]
		knock(s, master, one)
		if _, unseen := e.wait(e.pending, one, perKey); unseen > 0 {
			s.Fatalf("%s did not become pending within %v", one[0], perKey)
		}
		time.Sleep(quiet)
		begun := time.Now()
		s.check(client.Accept(ctx, one))
		if at, missing = e.wait(e.accepted, one, perKey); missing > 0 {
			s.Fatalf("%s was not accepted within %v of the call", one[0], perKey)
		}
		bare = append(bare, at.Sub(begun))
		time.Sleep(quiet)
	}
	s.Logf("one key: ours %s; bare call %s", spread(ours), spread(bare))
	t.atMost("one key, event to acceptance, against the bare call", median(ours), median(bare), 1.25)
}

// crowds measures many keys at once. Ours: from the first knock to the last
// acceptance. The master's floor: the same knocks with no bridge, then one call.
func crowds(ctx context.Context, s *stage, t *table, f *newcomers, master *lab.Master, bridge *lab.Bridge, e *events) time.Duration {
	client := wheel(s, master)
	var ours, floor, knocks []time.Duration
	for round := range crowdRounds {
		expected, strangers := f.ids(fmt.Sprintf("crowd%d", round), crowd), f.ids(fmt.Sprintf("floor%d", round), crowd)
		f.expect(expected)
		if !bridge.Alive() {
			bridge.Start()
			bridge.Ready()
		}
		begun := knock(s, master, expected)
		knocked := time.Since(begun)
		at, missing := e.wait(e.accepted, expected, crowdWithin)
		if missing > 0 {
			s.Fatalf("%d of %d keys were not accepted within %v\n%s", missing, crowd, crowdWithin, bridge.Tail())
		}
		ours = append(ours, at.Sub(begun))

		bridge.Stop()
		begun = knock(s, master, strangers)
		knocks = append(knocks, time.Since(begun))
		s.check(client.Accept(ctx, strangers))
		if at, missing = e.wait(e.accepted, strangers, crowdWithin); missing > 0 {
			s.Fatalf("%d of %d keys were not accepted within %v of the call", missing, crowd, crowdWithin)
		}
		floor = append(floor, at.Sub(begun))
		s.Logf("%d keys, round %d: ours %s (knocks %s); floor %s (knocks %s)", crowd, round+1,
			show(ours[round]), show(knocked), show(floor[round]), show(knocks[round]))
	}
	t.atMost(fmt.Sprintf("%d keys, against the knocks and one call", crowd), median(ours), median(floor), 1.3)
	return median(ours)
}
