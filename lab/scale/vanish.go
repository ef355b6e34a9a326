package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"phoenix/lab"
	"phoenix/lab/swarm"
)

// noticed is how long a minion is on a master that is silent: an agent needs some 10 s
// to be sure that its minion's master is dead, and restarts the minion within some
// seconds more (docs/agent-behaviour.md).
const noticed = 15 * time.Second

// vanish lets one of two masters fall silent under a fleet that has had its
// highstates, and returns what that costs: the time until the other serves all, auth
// requests, questions of the bridge, and highstates run again, which should be none. A master
// that is stopped (SIGSTOP) stands for one whose packets are lost: connections stay, and
// nothing answers.
func vanish(tb lab.TB, version string, n int) (said string, again int) {
	tb.Helper()
	l := lab.New(tb)
	f := &fleetOf{tb: tb, what: fmt.Sprintf("%s, %d minions, one of two masters vanishes", version, n)}
	dead := l.StartMaster(lab.MasterOptions{Version: version, Workers: 3})
	dead.Ready()
	f.master = l.StartMaster(lab.MasterOptions{Version: version, Workers: 3, KeyFrom: dead})
	f.master.Ready()
	beside := l.StartBridge(lab.BridgeOptions{Master: dead})
	f.bridge = l.StartBridge(lab.BridgeOptions{Master: f.master})
	beside.Ready()
	f.bridge.Ready()
	for i := range n {
		f.ids = append(f.ids, fmt.Sprintf("i-%05d", i))
	}
	f.bridge.Phoenix(append([]string{"minions", "add"}, f.ids...)...)
	var masters []string
	for _, m := range []*lab.Master{dead, f.master} {
		masters = append(masters, net.JoinHostPort(m.Addr, strconv.Itoa(l.RetPort)))
	}
	var err error
	f.swarm, err = swarm.New(swarm.Config{IDs: f.ids, Masters: masters, Spread: true, Keys: keyPairs,
		Retry:     time.Second,
		Highstate: highstate, Silence: noticed, Answer: noticed})
	if err != nil {
		tb.Fatalf("%v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	ended := make(chan struct{})
	f.ctx, f.begun = ctx, time.Now()
	go func() {
		defer close(ended)
		f.swarm.Run(ctx)
	}()
	tb.Cleanup(func() {
		cancel()
		<-ended
	})
	f.wait(swarm.Returned)
	if _, missing := f.onRecord(); missing > 0 {
		tb.Fatalf("%s: %d are not on record", f.what, missing)
	}
	time.Sleep(settle)
	before, masterCPU, bridgeCPU, on := f.swarm.Counts(), f.master.Usage().CPU, f.bridge.Usage().CPU,
		f.swarm.Connected()
	vanished := time.Now()
	dead.Signal(syscall.SIGSTOP)
	beside.Kill()
	lab.Eventually(tb, within, "the other master serves all", func() (bool, string) {
		now := f.swarm.Connected()
		return now[1] == n, fmt.Sprintf("%v, %+v", now, f.swarm.Counts())
	})
	all := time.Since(vanished)
	time.Sleep(afterRestart)
	c := f.swarm.Counts()
	auths := c.Auths - before.Auths
	dead.Signal(syscall.SIGCONT) // else it does not end by itself
	again = c.States - before.States
	return fmt.Sprintf("%s, %d minions: one of two masters vanishes under %d of them: the other serves all after %s, of which %s are until they notice; %.0f "+
		"authentications a second; within %s more: %.2f auth requests a minion that moved, %.2f jobs a minion, %d highstates; "+
		"master's CPU %s, bridge's %s, %.0f MB\n", version, n, on[0], seconds(all), seconds(noticed),
		float64(auths)/max(1, (all-noticed).Seconds()),
		seconds(afterRestart), float64(auths)/float64(max(1, on[0])), float64(c.Jobs-before.Jobs)/float64(n), again,
		seconds(f.master.Usage().CPU-masterCPU), seconds(f.bridge.Usage().CPU-bridgeCPU), f.bridge.Usage().Peak), again
}
