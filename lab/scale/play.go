package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/lab"
	"phoenix/lab/swarm"
)

const (
	// within bounds one round: 3,000 minions take a minute on two cores.
	within = 8 * time.Minute
	// highstate is how long a minion's takes. A real one takes longer, the same in
	// all ways, which would hide what differs.
	highstate = 100 * time.Millisecond
	// settle is how long nothing may be sent again after the last highstate.
	settle = 2 * time.Second
	// keyPairs that the minions share: to make one takes some 0.1 s.
	keyPairs = 8
)

// way is one way from launch to highstate.
type way struct {
	name    string
	open    bool          // the master accepts every key
	startup bool          // minions run their highstate by themselves
	phoenix bool          // a bridge accepts keys and sends highstates
	retry   time.Duration // of minions: acceptance_wait_time
}

// The ways that are held against each other.
var ways = []way{
	// The floor: who is connected is told at once, by one publish to all.
	{name: floor, open: true, retry: 10 * time.Second},
	// Salt with its doors open: no key is checked, and nothing is remembered.
	{name: open, open: true, startup: true, retry: 10 * time.Second},
	{name: phoenix, phoenix: true, retry: 10 * time.Second},
	// With minions that ask more often than by Salt's default.
	{name: phoenixSoon, phoenix: true, retry: time.Second},
}

const (
	floor       = "floor"
	open        = "open door"
	phoenix     = "phoenix"
	phoenixSoon = "phoenix, retry 1 s"
)

// result is what one round took and cost.
type result struct {
	took   time.Duration // until the last highstate was done; with a bridge, on record
	half   time.Duration // until half of the minions had it
	auths  float64       // auth requests a minion
	double int           // minions with more than one highstate
	lost   int           // without one, or not on record
	faults map[string]int
	bridge lab.Usage
	master lab.Usage
}

// play plays one round on a master of its own.
func play(tb lab.TB, version string, n int, w way) result {
	tb.Helper()
	l := lab.New(tb)
	config := map[string]any{}
	if w.open {
		config["auto_accept"] = true
	}
	master := l.StartMaster(lab.MasterOptions{Version: version, Extra: config})
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("i-%05d", i)
	}
	master.Ready()
	var bridge *lab.Bridge
	if w.phoenix {
		bridge = l.StartBridge(lab.BridgeOptions{Master: master})
		bridge.Ready()
		bridge.Phoenix(append([]string{"minions", "add"}, ids...)...)
	}
	s, err := swarm.New(swarm.Config{IDs: ids, Masters: []string{net.JoinHostPort(master.Addr, strconv.Itoa(l.RetPort))},
		Keys: keyPairs, Retry: w.retry, Highstate: highstate, Startup: w.startup})
	if err != nil {
		tb.Fatalf("%v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	ended := make(chan struct{})
	before := master.Usage().CPU
	begun := time.Now()
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	tb.Cleanup(func() {
		cancel()
		<-ended
	})

	r := result{}
	wait := func(p swarm.Point) {
		tb.Helper()
		if err := s.Wait(ctx, p); err != nil {
			tb.Fatalf("%s, %d minions, %s: %v; %+v, %v", version, n, w.name, err, s.Counts(), s.Faults())
		}
	}
	if !w.startup && !w.phoenix {
		wait(swarm.Started)
		master.Run("salt", "--async", "*", "state.highstate")
	}
	wait(swarm.Returned)
	done := s.Came(swarm.Returned)
	r.took, r.half = done[n-1], done[n/2]
	switch {
	case w.phoenix:
		r.took, r.lost = onRecord(tb, bridge, ids, begun)
		r.bridge = bridge.Usage()
	case !w.startup:
		// What the command takes to start is not the master's.
		started, told := s.Came(swarm.Started), s.Came(swarm.Begun)
		r.took = started[n-1] + done[n-1] - told[0]
		r.half = started[n/2] + done[n/2] - told[0]
	}
	time.Sleep(settle)
	r.master = master.Usage()
	r.master.CPU -= before
	var none int
	none, _, r.double = s.Runs()
	r.lost += none
	r.auths = float64(s.Counts().Auths) / float64(n)
	r.faults = s.Faults()
	tb.Logf("%s, %d minions, %s: %.1f s; %+v, faults %v", version, n, w.name, r.took.Seconds(), s.Counts(), r.faults)
	return r
}

// recorded is how long the last returns may take to be written down.
const recorded = time.Minute

// onRecord waits until the bridge has all highstates on record, and says when the
// last one was written: by the rows' own time, of the same machine.
func onRecord(tb lab.TB, bridge *lab.Bridge, ids []string, begun time.Time) (took time.Duration, missing int) {
	tb.Helper()
	var last time.Time
	for until := time.Now().Add(recorded); ; {
		rows := bridge.Minions()
		missing = 0
		for _, id := range ids {
			row := rows[id]
			if !row.HighstateRan || row.ClaimState != fleet.Done {
				missing++
				continue
			}
			at, err := fleet.ParseTime(row.Modified)
			if err != nil {
				tb.Fatalf("read row of %s: %v", id, err)
			}
			if at.After(last) {
				last = at
			}
		}
		if missing == 0 || time.Now().After(until) {
			return last.Sub(begun), missing
		}
		time.Sleep(watchEvery)
	}
}

// watchEvery is seldom: a list of thousands of rows costs the machine too.
const watchEvery = time.Second
