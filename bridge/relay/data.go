package relay

import (
	"context"
	"maps"
	"time"

	"phoenix/bridge/salt"
)

// offerChanges offers what changes in the cache until ctx ends.
func (r *Relay) offerChanges(ctx context.Context) {
	r.share.run(ctx, r.dataChanged, func() {
		r.offerAgain()
		r.fetches.again()
		r.wakeAsk()
	})
}

func (r *Relay) wakeAsk() {
	select {
	case r.asking <- struct{}{}:
	default:
	}
}

// ask asks peers for the data that this master wants.
func (r *Relay) ask(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.asking:
		}
		r.mu.Lock()
		peers := maps.Clone(r.peers)
		r.mu.Unlock()
		for name, p := range peers {
			if ids := r.fetches.next(name); len(ids) > 0 {
				if !p.ask(ctx, message{Kind: kindWant, IDs: ids}) {
					r.fetches.unasked(name, ids)
				}
			}
		}
	}
}

// dataChanged offers what the master wrote to each peer that is here; nil: all there is.
func (r *Relay) dataChanged(stamps map[string]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range stamps {
		r.records.seenOn(id, here)
	}
	for _, g := range r.askers {
		if g.link != nil {
			r.offerData(g, stamps)
		}
	}
}

// indexEvery is how often all data is offered again, so that nothing that was missed
// matters for longer: a file that could not be read just then, an answer that came too
// late.
const indexEvery = 2 * time.Minute

func (r *Relay) offerAgain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.askers {
		if g.link != nil && (g.indexDue || r.o.Now().Sub(g.indexed) > indexEvery) {
			r.offerData(g, nil)
		}
	}
}

// offerData is called with mu held. A change for which there is no room is offered with
// all the rest later.
func (r *Relay) offerData(g *asker, stamps map[string]int64) {
	var list []message
	if stamps != nil && !g.indexDue {
		list = parts(message{Kind: kindHave, Fresh: true}, stamps)
	} else {
		mine, others := r.records.divide(r.share.index())
		list = append(parts(message{Kind: kindHave, Here: true}, mine), parts(message{Kind: kindHave}, others)...)
		g.indexed = r.o.Now()
	}
	g.indexDue = false
	for _, m := range list {
		if !g.outbox.put(m) {
			g.indexDue = true
			return
		}
	}
}

// giveData sends a peer what it asked for on this connection.
func (r *Relay) giveData(ctx context.Context, wants <-chan []string, l *link) error {
	for {
		var ids []string
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ids = <-wants:
		}
		for _, id := range ids {
			m := message{Kind: kindData, ID: id}
			data, stamp, err := r.share.cache.Read(id)
			if err != nil {
				if times, yes := r.dataLog.next(r.o.Now()); yes {
					r.o.Log.Warn("relay: data of a minion not sent", "err", err, "times", times)
				}
			} else {
				m.Values, m.Stamp = data, stamp
			}
			if err := l.send(m); err != nil {
				return err
			}
			if err == nil {
				r.count(func(c *Counts) { c.DataSent++ })
			}
		}
	}
}

// wants takes in what a peer asks for.
func (r *Relay) wants(to chan<- []string, ids []string) {
	if r.share == nil {
		return
	}
	select {
	case to <- ids[:min(len(ids), maxOpen)]:
	default: // no peer asks for more before it has what it asked for
	}
}

// offersData takes in what a peer has.
func (r *Relay) offersData(from string, m message) {
	for id := range m.Stamps {
		if validID(id) && (m.Fresh || m.Here && !r.records.seen(id)) {
			r.records.seenOn(id, from)
		}
	}
	if r.share != nil {
		r.fetches.offered(from, m.Stamps, m.Fresh)
		r.wakeAsk()
	}
}

// takesData takes a peer's data of a minion.
func (r *Relay) takesData(from string, m message) {
	if r.share == nil {
		return
	}
	seen, ok := r.fetches.came(from, m.ID)
	// The key is read once more: it may have been deleted since the question, and with it
	// the data, which nothing would delete again.
	if ok && len(m.Values) > 0 && m.Stamp > 0 && r.o.Accepted(m.ID) {
		// One that is ahead of this host's clock would keep what is written later out.
		stamp := min(m.Stamp, r.o.Now().UnixNano())
		if err := r.share.write(m.ID, salt.MinionData(m.Values), seen, stamp); err == nil {
			r.count(func(c *Counts) { c.DataTaken++ })
		} else if times, yes := r.dataLog.next(r.o.Now()); yes {
			r.o.Log.Warn("relay: data of a minion not stored", "peer", from, "err", err, "times", times)
		}
	}
	r.wakeAsk()
}
