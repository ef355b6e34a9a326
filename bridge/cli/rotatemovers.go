package cli

import (
	"context"
	"net"
	"strconv"
	"time"

	"phoenix/bridge/fleet"
)

const (
	// aliveMost is the longest master_alive_interval for which a master stays stopped.
	aliveMost = 100 * time.Second
	// moveWithin is what a failover minion needs to connect to another master, once it
	// has noticed that its own is gone.
	moveWithin = 10 * time.Second
	// requestPort is Salt's default ret_port, for a row that names none.
	requestPort = 4506
)

// mover is what a minion says of how Salt itself moves it to another master.
type mover struct {
	masterType string
	masters    []string      // the URIs of the request ports of its masters
	alive      time.Duration // how often it checks its master; 0: never
}

// movesTo reports whether Salt moves the minion, soon after its master stops, to one of
// these masters. A minion has room for one trusted key: such a one must keep the old key
// until then. With the new key it would refuse that master, and its process would end
// (salt/minion.py and salt/cli/daemons.py of 3006.30; lab/e2e has a test).
func (m mover) movesTo(uris map[string]bool) bool {
	if m.masterType != "failover" || m.alive <= 0 || m.alive > aliveMost {
		return false
	}
	for _, uri := range m.masters {
		if uris[uri] {
			return true
		}
	}
	return false
}

// withOldKey returns the request ports of the other masters that are ready and have the
// key old, as minions write them (salt/minion.py, resolve_dns).
func withOldKey(masters []fleet.Master, self, old string) map[string]bool {
	uris := map[string]bool{}
	for _, m := range masters {
		if m.InstanceID == self || m.Status != fleet.Launch || !m.Ready || m.MasterKeySHA256 != old {
			continue
		}
		port := m.RetPort
		if port == 0 {
			port = requestPort
		}
		uris["tcp://"+net.JoinHostPort(m.IPAddr, strconv.Itoa(port))] = true
	}
	return uris
}

// movers asks minions how Salt moves them, and returns those that it moves to one of these
// masters, and how long they need to notice that this one is stopped.
func (r *rotator) movers(ctx context.Context, ids []string,
	uris map[string]bool) (movers map[string]bool, wait time.Duration, err error) {
	if len(ids) == 0 || len(uris) == 0 {
		return nil, 0, nil
	}
	// A job gives one value for each function, so the third question is another job.
	lists, err := r.jobs.run(ctx, ids, call("config.get", "master_uri_list"), call("config.option", "master_type"))
	if err != nil {
		return nil, 0, err
	}
	intervals, err := r.jobs.run(ctx, ids, call("config.get", "master_alive_interval"))
	if err != nil {
		return nil, 0, err
	}
	movers = map[string]bool{}
	for id, answer := range lists {
		m := mover{masterType: returned(answer, "config.option"), alive: aliveMost} // if it says nothing
		if interval, said := intervals[id]; said {
			m.alive = seconds(interval)
		}
		byName, _ := answer.(map[string]any)
		list, _ := byName["config.get"].([]any)
		for _, one := range list {
			if uri, ok := one.(string); ok {
				m.masters = append(m.masters, uri)
			}
		}
		if m.movesTo(uris) {
			movers[id] = true
			wait = max(wait, m.alive+moveWithin)
		}
	}
	return movers, wait, nil
}

// seconds returns a number of Salt's configuration as a duration; what is none is 0.
func seconds(value any) time.Duration {
	switch n := value.(type) {
	case int64:
		return time.Duration(n) * time.Second
	case float64:
		return time.Duration(n * float64(time.Second))
	}
	return 0
}
