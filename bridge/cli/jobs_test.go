package cli

import (
	"strings"
	"testing"
	"time"

	"phoenix/bridge/relay"
)

// A job that did not reach a master is dated, and said to be over once the master is back.
func TestLostJob(t *testing.T) {
	now := time.Now()
	l := relay.Lost{JID: "20260101000000000001", Function: "test.ping", At: now.Add(-4 * time.Minute), Master: "salt-2",
		Why: "connect: connection refused" + strings.Repeat(" and so on", 40), Minions: []string{"web-2"}, Count: 1}
	peers := []relay.Peer{{Master: "salt-3", Connected: true}, {Master: "salt-2"}}
	got := lostJob(l, peers, now)
	if !strings.HasPrefix(got, "4m ago job 20260101000000000001 (test.ping) did not reach salt-2: connect: connection refused and") ||
		!strings.HasSuffix(got, "…; missing: web-2") || len(got) > 250 {
		t.Error(got)
	}
	peers[1].Connected, l.Count = true, 0
	if got := lostJob(l, peers, now); got != "4m ago job 20260101000000000001 (test.ping) did not reach salt-2, which is connected now; missing: no minion that is known" {
		t.Error(got)
	}
}
