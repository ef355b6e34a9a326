package failover

import (
	"fmt"
	"time"

	"phoenix/lab"
)

// Alone is one minion without an agent, whose master's packets vanished.
type Alone struct {
	Name  string
	Took  time.Duration
	Moved bool // else Took is how long it was waited for
}

// alone are the ways in which a minion is left to Salt's own failover.
var alone = []struct {
	name  string
	extra map[string]any
}{
	{"Salt alone, default keep-alive", nil},
	{"Salt alone, keep-alive tuned",
		map[string]any{"tcp_keepalive_idle": 30, "tcp_keepalive_cnt": 3, "tcp_keepalive_intvl": 10}},
}

// Alone measures Salt's own failover: it has minions whose only help is
// master_alive_interval, and gives up after a while.
func (f *Fleet) Alone(patience time.Duration) []Alone {
	f.tb.Helper()
	dead, living := f.sides[0], f.sides[1]
	var minions []*lab.Minion
	var ids []string
	for i, a := range alone {
		id := fmt.Sprintf("alone-%d", i+1)
		dead.bridge.Phoenix("minions", "add", id)
		extra := map[string]any{"master_alive_interval": 15}
		for key, value := range a.extra {
			extra[key] = value
		}
		minions = append(minions, f.lab.StartMinion(lab.MinionOptions{ID: id, Failover: true, Extra: extra,
			Masters: []*lab.Master{dead.master, living.master}}))
		ids = append(ids, id)
	}
	dead.listener.Wait(ids...)
	f.lab.Eventually(within, "the master serves the minions without an agent", func() (bool, string) {
		heard := dead.listener.Heard()
		return len(heard) == len(ids), fmt.Sprint(heard)
	})
	living.listener.Wait(ids...)
	died := f.die(dead, Vanished)
	f.lab.Eventually(patience+within, "all have moved, or patience has ended", func() (bool, string) {
		return len(living.listener.Heard()) == len(ids) || time.Since(died) > patience, ""
	})
	var results []Alone
	for i, a := range alone {
		at, moved := living.listener.Heard()[ids[i]]
		took := patience
		if moved {
			took = at.Sub(died)
		}
		results = append(results, Alone{a.name, took, moved})
	}
	for _, m := range minions {
		m.Kill()
	}
	f.revive(dead, Vanished)
	return results
}
