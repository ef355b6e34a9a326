package relay

import (
	"context"
	"sync"
	"time"

	"phoenix/bridge/fleet"
)

// followMasters keeps a peer for each other master that has a relay.
func (r *Relay) followMasters(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	ends := map[string]context.CancelFunc{}
	logged := ""
	for {
		r.endOldKeys()
		masters, err := r.o.Masters(ctx)
		switch {
		case err == nil:
			logged = ""
			r.updatePeers(ctx, masters, ends, &running)
		case ctx.Err() == nil && err.Error() != logged:
			logged = err.Error()
			r.o.Log.Warn("relay: masters not read; peers not changed", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.o.MastersIn):
		case <-r.refresh:
		}
	}
}

// endOldKeys ends the connections that were made with another key than the masters have
// now: who holds the former one alone is no master any more. A key that cannot be read
// changes nothing; no connection comes about without it, either.
func (r *Relay) endOldKeys() {
	key, err := r.o.Pair()
	if err != nil {
		return
	}
	own, err := digestOf(&key.PublicKey)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, g := range r.askers {
		if g.link != nil && g.link.key() != own {
			r.o.Log.Warn("relay: the masters' key was replaced; connections with the old key are closed", "from", name)
			g.leave()
		}
	}
	for _, p := range r.peers {
		p.endOldKey(own)
	}
}

// updatePeers begins with the peers that are new, and ends those that are none any more.
func (r *Relay) updatePeers(ctx context.Context, masters []fleet.Master, ends map[string]context.CancelFunc,
	running *sync.WaitGroup) {
	r.handshakes.expect(masters)
	wanted := peersOf(masters, r.o.Instance)
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, p := range r.peers {
		if wanted[name] != p.address {
			ends[name]()
			delete(ends, name)
			delete(r.peers, name)
			if r.share != nil { // changed does not report a connection that ends here
				r.fetches.end(name)
			}
		}
	}
	for name, address := range wanted {
		if r.peers[name] != nil {
			continue
		}
		p := &peer{name: name, address: address, hello: r.hello(), pair: r.o.Pair, now: r.o.Now, receive: r.receive,
			changed: r.changed, traffic: &r.traffic}
		own, end := context.WithCancel(ctx)
		r.peers[name], ends[name] = p, end
		running.Go(func() { p.run(own) })
	}
}

// peersOf returns the addresses of the other masters' relays.
func peersOf(masters []fleet.Master, self string) map[string]string {
	peers := map[string]string{}
	for _, m := range masters {
		if m.InstanceID != self && m.Status == fleet.Launch && m.Relay != "" && len(peers) < maxAskers {
			peers[m.InstanceID] = m.Relay
		}
	}
	return peers
}

func (r *Relay) changed(p *peer, err error) {
	r.mu.Lock()
	// A peer that was removed meanwhile, or replaced by one at another address, changes
	// nothing: updatePeers has ended its offers.
	if r.share != nil && r.peers[p.name] == p {
		if err == nil {
			r.fetches.begin(p.name)
		} else {
			r.fetches.end(p.name)
		}
	}
	r.mu.Unlock()
	if err == nil {
		r.o.Log.Info("relay: peer reached", "peer", p.name, "address", p.address)
		return
	}
	r.o.Log.Warn("relay: peer not reached; commands run on the other masters", "peer", p.name, "address",
		p.address, "err", err)
}
