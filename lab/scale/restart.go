package main

import (
	"fmt"
	"time"

	"phoenix/lab"
	"phoenix/lab/swarm"
)

// restart restarts salt-master under a fleet that has had its highstates, and says
// what that costs: in auth requests, in questions of the bridge, and in highstates,
// which should be none.
func restart(tb lab.TB, version string, n int) string {
	tb.Helper()
	f := launch(tb, version, n, way{name: "salt-master restarted", phoenix: true, retry: time.Second})
	f.wait(swarm.Returned)
	if _, missing := f.onRecord(); missing > 0 {
		tb.Fatalf("%s: %d are not on record", f.what, missing)
	}
	time.Sleep(settle)
	before, cpu := f.swarm.Counts(), f.bridge.Usage().CPU
	begun := time.Now()
	f.master.Restart()
	f.master.Ready()
	up := time.Since(begun)
	lab.Eventually(tb, within, "all are connected again", func() (bool, string) {
		now := f.swarm.Connected()[0]
		return now == n && f.swarm.Counts().Connects-before.Connects >= n, fmt.Sprintf("%d, %+v", now, f.swarm.Counts())
	})
	all := time.Since(begun)
	time.Sleep(afterRestart)
	c := f.swarm.Counts()
	return fmt.Sprintf("%s, %d minions: salt-master restarted: it answers after %s, all are connected after %s; within %s more: %.2f auth requests and %.2f jobs "+
		"a minion, %d highstates; master's CPU %s, bridge's %s, %.0f MB\n", version, n, seconds(up), seconds(all),
		seconds(afterRestart),
		float64(c.Auths-before.Auths)/float64(n), float64(c.Jobs-before.Jobs)/float64(n), c.States-before.States,
		seconds(f.master.Usage().CPU), seconds(f.bridge.Usage().CPU-cpu), f.bridge.Usage().Peak)
}

// afterRestart is how long it is watched what follows: the bridge compares all
// keys a few seconds after the bus is back.
const afterRestart = 20 * time.Second
