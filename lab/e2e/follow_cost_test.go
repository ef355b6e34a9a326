package e2e_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"phoenix/lab"
)

// costly are the minions of each row of TestFollowCost.
const costly = 2

// TestFollowCost: what it costs a minion, and its masters, to follow one, two, or all of
// three masters: connections (one to each of a master's two ports, 3006 to 3008), memory,
// authentications at the start. It logs a table.
func TestFollowCost(t *testing.T) {
	versions, all := salts()
	if !all {
		t.Skip("it measures, and checks nothing that others do not: make follow runs it")
	}
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			var masters []*lab.Master
			for range 3 {
				o := lab.MasterOptions{Version: version, Extra: map[string]any{"auto_accept": true}}
				if len(masters) > 0 {
					o.KeyFrom = masters[0]
				}
				m := l.StartMaster(o)
				m.Ready()
				masters = append(masters, m)
			}
			const line = "%-8s  %-6v  %-24s  %-22s  %-24s  %s"
			t.Logf(line, "Salt", "follow", "connections of a minion", "its memory", "authentications of one",
				"memory of three masters")
			for _, follow := range []int{1, 2, 3} {
				c := followCost(t, l, masters, follow)
				t.Logf(line, version, follow, fmt.Sprint(c.connections), fmt.Sprintf("%.0f MB", c.minion),
					fmt.Sprint(c.auths), fmt.Sprintf("%.0f MB", c.masters))
				if c.auths < float64(follow) {
					t.Errorf("follow %d: %.1f authentications", follow, c.auths)
				}
			}
		})
	}
}

// cost is of one minion, on average; masters is of all masters together.
type cost struct{ connections, auths, minion, masters float64 }

func followCost(t *testing.T, l *lab.Lab, masters []*lab.Master, follow int) cost {
	t.Helper()
	var minions []*lab.Minion
	for i := range costly {
		minions = append(minions, l.StartMinion(lab.MinionOptions{ID: fmt.Sprintf("follow-%d-%d", follow, i+1),
			Masters: masters[:follow],
			// The list of one is failover's, as the agent's drop-in has it.
			Failover: follow == 1}))
	}
	var c cost
	for _, m := range minions {
		for _, master := range masters[:follow] {
			m.Answers(master)
		}
	}
	// A connection by which an answer was returned is closed later.
	l.Eventually(within, "each minion has one connection to each port of each master", func() (bool, string) {
		n := connectionsTo(t, l, masters)
		c.connections = float64(n) / costly
		return n == 2*follow*costly, fmt.Sprint(n)
	})
	for _, m := range minions {
		for _, master := range masters[:follow] {
			for _, line := range master.Grep("Authentication request from ") {
				if strings.HasSuffix(line, " "+m.ID) {
					c.auths += 1.0 / costly
				}
			}
		}
	}
	for _, m := range minions {
		c.minion += leastMemory(m.Process) / costly
	}
	for _, master := range masters {
		c.masters += leastMemory(master.Process)
	}
	for _, m := range minions {
		m.Kill()
	}
	return c
}

// leastMemory samples the memory of a process and its children for some seconds. The
// least counts: a job is a child for a while.
func leastMemory(p *lab.Process) float64 {
	least := p.Usage().Now
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range 8 {
		<-tick.C
		least = min(least, p.Usage().Now)
	}
	return least
}

// connectionsTo counts the established connections to the masters' two ports. Nobody but
// the lab's minions is there.
func connectionsTo(t *testing.T, l *lab.Lab, masters []*lab.Master) (n int) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		// sl local_address rem_address st …, addresses in the host's byte order; 01 is
		// established (include/net/tcp_states.h).
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[3] != "01" {
			continue
		}
		for _, m := range masters {
			ip := net.ParseIP(m.Addr).To4()
			for _, port := range []int{l.PublishPort, l.RetPort} {
				if fields[2] == fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip), port) {
					n++
				}
			}
		}
	}
	return n
}
