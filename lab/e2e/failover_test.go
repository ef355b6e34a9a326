package e2e_test

import (
	"regexp"
	"testing"
	"time"

	"phoenix/lab"
	"phoenix/lab/failover"
)

// awayAtMost is far from what "make kills" measures (docs/agent-behaviour.md): tests of
// other packages share the machine.
const awayAtMost = 2 * time.Minute

// TestMinionsOutliveTheirMaster: kill -9 of a master and its bridge, and its
// packets that vanish. Minions are served by the other master, and the first
// highstate that runs meanwhile is run once, says the state itself. "make kills"
// does it more often, both on both versions, and measures.
func TestMinionsOutliveTheirMaster(t *testing.T) {
	t.Parallel()
	for version, ways := range map[string][]failover.How{
		lab.Salt3007: {failover.Killed},
		lab.Salt3008: {failover.Vanished},
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			child, err := lab.Isolate("-test.run=^TestMinionsOutliveTheirMaster$/^"+regexp.QuoteMeta(version)+"$",
				"-test.v", "-test.timeout=20m")
			if err != nil {
				t.Fatal(err)
			}
			if !child {
				return
			}
			f := failover.New(t, version, 1)
			for _, how := range ways {
				for _, m := range f.Kill(how) {
					t.Logf("%s: %s was served after %.1f s, restarted by its agent: %v", m.How, m.Minion,
						m.Took.Seconds(), m.Restarted)
					if m.Took > awayAtMost {
						t.Errorf("%s: %s was served after %v", m.How, m.Minion, m.Took)
					}
				}
			}
		})
	}
}
