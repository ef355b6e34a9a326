package relay

import (
	"net"
	"net/netip"
	"sync"

	"phoenix/bridge/fleet"
)

// handshakes counts the connections that have not shown the masters' key yet.
type handshakes struct {
	mu      sync.Mutex
	masters map[netip.Addr]bool // the addresses in the masters' rows
	shaking map[netip.Addr]int
	foreign int // those from other addresses
}

// expect says where masters are.
func (d *handshakes) expect(masters []fleet.Master) {
	known := map[netip.Addr]bool{}
	for _, m := range masters {
		if m.Status != fleet.Launch {
			continue
		}
		host, _, _ := net.SplitHostPort(m.Relay)
		for _, text := range []string{host, m.IPAddr} {
			if a, err := netip.ParseAddr(text); err == nil {
				known[a.Unmap()] = true
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.masters = known
}

// begin reports whether one more connection from an address may begin. leave is to be
// called when it has shown the key, or ended.
func (d *handshakes) begin(from netip.Addr) (leave func(), ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	foreign := 1
	if d.masters[from] {
		foreign = 0
	}
	if d.shaking[from] >= maxHandshakesOfOne || foreign > 0 && d.foreign >= maxHandshakes {
		return nil, false
	}
	if d.shaking == nil {
		d.shaking = map[netip.Addr]int{}
	}
	d.shaking[from]++
	d.foreign += foreign
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.foreign -= foreign
		if d.shaking[from]--; d.shaking[from] == 0 {
			delete(d.shaking, from)
		}
	}, true
}

func sourceOf(conn net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}
