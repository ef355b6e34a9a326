package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
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
	ahead   bool          // the keys are known before the launch
	retry   time.Duration // of minions: acceptance_wait_time
}

// The ways that are held against each other.
var ways = []way{
	// The floor: all connect, and are told by one publish. The two do not overlap.
	{name: floor, open: true, retry: 10 * time.Second},
	// Salt with its doors open: no key is checked, and nothing is remembered.
	{name: open, open: true, startup: true, retry: 10 * time.Second},
	{name: phoenix, phoenix: true, retry: 10 * time.Second},
	// With minions that ask more often than by Salt's default.
	{name: phoenixSoon, phoenix: true, retry: time.Second},
	// With keys that the instances' agents wrote before the minions started: none is
	// ever pending.
	{name: phoenixAhead, phoenix: true, ahead: true, retry: 10 * time.Second},
}

const (
	floor       = "floor"
	open        = "open door"
	phoenix     = "phoenix"
	phoenixSoon = "phoenix, retry 1 s"
	// phoenixAhead: the rows' bound keys stand for the proofs of a fleet in DynamoDB.
	phoenixAhead = "phoenix, keys ahead"
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

// fleetOf is a master, with or without a bridge, and minions that were launched.
type fleetOf struct {
	tb     lab.TB
	ctx    context.Context
	what   string // for people
	master *lab.Master
	bridge *lab.Bridge
	swarm  *swarm.Swarm
	ids    []string
	begun  time.Time
	before time.Duration // the master's CPU
}

// launch starts a master of its own, and then minions, all at once.
func launch(tb lab.TB, version string, n int, w way) *fleetOf {
	tb.Helper()
	l := lab.New(tb)
	config := map[string]any{}
	if w.open {
		config["auto_accept"] = true
	}
	f := &fleetOf{tb: tb, what: fmt.Sprintf("%s, %d minions, %s", version, n, w.name)}
	f.master = l.StartMaster(lab.MasterOptions{Version: version, Workers: 3, Extra: config})
	for i := range n {
		f.ids = append(f.ids, fmt.Sprintf("i-%05d", i))
	}
	f.master.Ready()
	var err error
	f.swarm, err = swarm.New(swarm.Config{IDs: f.ids,
		Masters: []string{net.JoinHostPort(f.master.Addr, strconv.Itoa(l.RetPort))},
		Keys:    keyPairs, Retry: w.retry, Highstate: highstate, Startup: w.startup})
	if err != nil {
		tb.Fatalf("%v", err)
	}
	if w.phoenix {
		f.bridge = l.NewBridge(lab.BridgeOptions{Master: f.master})
		f.bridge.Phoenix(append([]string{"minions", "add"}, f.ids...)...)
		if w.ahead {
			f.bind(filepath.Join(l.Dir(), "fleet.db"))
		}
		f.bridge.Start()
		f.bridge.Ready()
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	ended := make(chan struct{})
	f.ctx, f.before, f.begun = ctx, f.master.Usage().CPU, time.Now()
	go func() {
		defer close(ended)
		f.swarm.Run(ctx)
	}()
	tb.Cleanup(func() {
		cancel()
		<-ended
	})
	return f
}

// bind writes the minions' keys into their rows.
func (f *fleetOf) bind(path string) {
	f.tb.Helper()
	store, err := sqlite.Open(context.Background(), path)
	if err != nil {
		f.tb.Fatalf("%v", err)
	}
	defer store.Close()
	var changes []fleet.Change
	for i, id := range f.ids {
		pem := f.swarm.PublicKey(i)
		digest, err := fleet.KeyDigest([]byte(pem))
		if err != nil {
			f.tb.Fatalf("%v", err)
		}
		changes = append(changes, fleet.Bind{InstanceID: id, KeySHA256: digest, PublicKey: pem})
	}
	if _, err := store.Apply(context.Background(), changes); err != nil {
		f.tb.Fatalf("%v", err)
	}
}

// wait waits until all minions have come to the point.
func (f *fleetOf) wait(p swarm.Point) []time.Duration {
	f.tb.Helper()
	if err := f.swarm.Wait(f.ctx, p); err != nil {
		f.tb.Fatalf("%s: %v; %+v, %v", f.what, err, f.swarm.Counts(), f.swarm.Faults())
	}
	return f.swarm.Came(p)
}

// measure runs one round.
func measure(tb lab.TB, version string, n int, w way) result {
	tb.Helper()
	f := launch(tb, version, n, w)
	var started []time.Duration
	if !w.startup && !w.phoenix {
		started = f.wait(swarm.Started)
		f.master.Run("salt", "--async", "*", "state.highstate")
	}
	done := f.wait(swarm.Returned)
	r := result{took: done[n-1], half: done[n/2]}
	switch {
	case w.phoenix:
		r.took, r.lost = f.onRecord()
		r.bridge = f.bridge.Usage()
	case !w.startup:
		// What the command takes to start is not the master's.
		told := f.swarm.Came(swarm.Begun)[0]
		r.took, r.half = started[n-1]+done[n-1]-told, started[n/2]+done[n/2]-told
	}
	time.Sleep(settle)
	r.master = f.master.Usage()
	r.master.CPU -= f.before
	var none int
	none, _, r.double = f.swarm.Runs()
	r.lost += none
	r.auths = float64(f.swarm.Counts().Auths) / float64(n)
	r.faults = f.swarm.Faults()
	tb.Logf("%s: %.1f s; %+v, faults %v", f.what, r.took.Seconds(), f.swarm.Counts(), r.faults)
	return r
}

// recorded is how long the last returns may take to be written down.
const recorded = time.Minute

// onRecord waits until the bridge has all highstates on record, and says when the
// last one was written: by the rows' own time, of the same machine.
func (f *fleetOf) onRecord() (took time.Duration, missing int) {
	f.tb.Helper()
	var last time.Time
	for until := time.Now().Add(recorded); ; {
		rows := f.bridge.Minions()
		missing = 0
		for _, id := range f.ids {
			row := rows[id]
			if !row.HighstateRan || row.ClaimState != fleet.Done {
				missing++
				continue
			}
			at, err := fleet.ParseTime(row.Modified)
			if err != nil {
				f.tb.Fatalf("read row of %s: %v", id, err)
			}
			if at.After(last) {
				last = at
			}
		}
		if missing == 0 || time.Now().After(until) {
			return last.Sub(f.begun), missing
		}
		time.Sleep(watchEvery)
	}
}

// watchEvery is seldom: a list of thousands of rows costs the machine too.
const watchEvery = time.Second
