package e2e_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/lab"
	"phoenix/lab/swarm"
)

const (
	// promptlyAlone is what nobody waits longer for, whatever else waits; amidCrowds where
	// other tests take the machine's cores, whose load reached 60 when 10.7 s was seen.
	promptlyAlone = 10 * time.Second
	amidCrowds    = 30 * time.Second
	// peak is the most memory that a bridge may have, MB.
	peak = 100
)

// TestG12_ManyAuthRequests: while thousands of auth requests are worked off, a retired key
// goes, a return is recorded and status answers, each within 10 s (30 s beside other
// tests). 3,000 on one version stand for the 10,000 on two that "make long" sends.
func TestG12_ManyAuthRequests(t *testing.T) {
	t.Parallel()
	requests, promptly, salts := 3000, amidCrowds, []string{lab.Salt3008}
	if os.Getenv("PHOENIX_LONG") != "" {
		requests, promptly, salts = 10_000, promptlyAlone, []string{lab.Salt3007, lab.Salt3008}
	}
	for _, version := range salts {
		t.Run(version, func(t *testing.T) { manyAuthRequests(t, version, requests, promptly) })
	}
}

func manyAuthRequests(t *testing.T, version string, requests int, promptly time.Duration) {
	l := lab.New(t)
	master := l.StartMaster(lab.MasterOptions{Version: version, Workers: 3})
	bridge := l.NewBridge(lab.BridgeOptions{Master: master})
	master.Ready()
	bridge.Start()
	bridge.Ready()

	retired, ids := "i-0000dead", numbered(1, requests)
	bridge.Phoenix("minions", "add", retired)
	released(t, l, master, 0, retired)
	l.Eventually(within, "the first minion is done", func() (bool, string) {
		row := bridge.Minions()[retired]
		return row.HighstateRan, fmt.Sprintf("%+v", row)
	})
	for some := range slices.Chunk(ids, 2000) {
		bridge.Phoenix(append([]string{"minions", "add"}, some...)...)
	}
	// Their highstates end while others ask.
	slow := numbered(0xa0000, 5)
	bridge.Phoenix(append([]string{"minions", "add"}, slow...)...)
	returning := released(t, l, master, 8*time.Second, slow...)
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := returning.Wait(ctx, swarm.Begun); err != nil {
		t.Fatalf("%v: %+v", err, returning.Counts())
	}

	var answered atomic.Int64
	var beside sync.WaitGroup
	flood, stop := context.WithCancel(t.Context())
	defer beside.Wait()
	defer stop()
	beside.Go(func() {
		addr := net.JoinHostPort(master.Addr, strconv.Itoa(l.RetPort))
		if err := swarm.RequestAuth(flood, addr, ids, func(string) { answered.Add(1) }); err != nil &&
			flood.Err() == nil {
			t.Errorf("%v", err)
		}
	})
	l.Eventually(within, "auth requests are answered",
		func() (bool, string) { n := answered.Load(); return n > int64(requests)/10, fmt.Sprint(n) })

	at := time.Now()
	bridge.Phoenix("minions", "retire", retired)
	var gone, slowest time.Duration
	for asked := 0; answered.Load() < int64(requests) || gone == 0; asked++ {
		before := time.Now()
		bridge.Phoenix("status")
		slowest = max(slowest, time.Since(before))
		if gone == 0 && !master.HasAccepted(retired) {
			gone = time.Since(at)
		}
		if gone == 0 && time.Since(at) > within {
			t.Fatalf("the retired key is still accepted after %v; %d of %d answered\n%s", time.Since(at),
				answered.Load(), requests, bridge.Tail())
		}
		time.Sleep(200 * time.Millisecond) // between two calls of a command
	}
	t.Logf("%d auth requests were answered within %v, %d keys are pending still; retired key gone after %v; slowest status %v", requests, time.Since(at), len(master.Pending()), gone, slowest)
	if err := returning.Wait(ctx, swarm.Returned); err != nil {
		t.Fatalf("%v: %+v", err, returning.Counts())
	}
	returned := returning.Came(swarm.Returned)
	var recorded time.Duration
	l.Eventually(within, "what returned is on record", func() (bool, string) {
		rows := bridge.Minions()
		for _, id := range slow {
			row := rows[id]
			if row.ClaimState != fleet.Done {
				return false, fmt.Sprintf("%+v", row)
			}
			ended, err := fleet.ParseTime(row.Modified)
			if err != nil {
				t.Fatal(err)
			}
			recorded = max(recorded, ended.Sub(begun)-returned[len(returned)-1])
		}
		return true, ""
	})
	used := bridge.Usage()
	t.Logf("the last return was recorded after %v; the bridge used %v of CPU and %.0f MB", recorded,
		used.CPU, used.Peak)
	for what, took := range map[string]time.Duration{"the retired key to go": gone, "a return to be recorded": recorded,
		"status to answer": slowest} {
		if took > promptly {
			t.Errorf("it took %v for %s, more than %v", took.Round(time.Millisecond), what, promptly)
		}
	}
	if used.Peak > peak {
		t.Errorf("the bridge had %.0f MB, more than %d", used.Peak, peak)
	}
}
