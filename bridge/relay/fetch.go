package relay

import (
	"sync"
	"time"
)

const (
	// maxOpen is how many minions' data one peer is asked for at a time: as fast as this
	// master's disk takes it.
	maxOpen = 64
	// maxOffers bounds what all peers offer and this master has no key for, or has not
	// asked for yet.
	maxOffers = 200_000
	// maxOffersOfOne bounds what one peer offers, so that the others' offers have room.
	maxOffersOfOne = maxOffers / 2
	// answerWithin: a question that has no answer after so long may be asked again.
	answerWithin = time.Minute
)

// offer is that a peer has data of a minion.
type offer struct {
	stamp int64
	fresh bool // its master has just written it
}

// fetches is what peers offer, and what they were asked for.
type fetches struct {
	needs    func(id string, o offer) (here int64, yes bool)
	accepted func(id string) bool // the master has this minion's key
	now      func() time.Time

	mu    sync.Mutex
	peers map[string]*fetch
	open  map[string]asked // of all peers, by the minion
	size  int              // of all offers
}

// fetch is one connection.
type fetch struct {
	todo   []string // may be asked for
	later  []string // without a key here, or asked of another peer
	offers map[string]offer
}

// asked is what a peer was asked for.
type asked struct {
	peer string
	offer
	here int64 // the stamp that this master's own had then
	at   time.Time
}

func newFetches(needs func(string, offer) (int64, bool), accepted func(string) bool, now func() time.Time) *fetches {
	return &fetches{needs: needs, accepted: accepted, now: now, peers: map[string]*fetch{}, open: map[string]asked{}}
}

// begin begins with a connection, and end ends with it.
func (f *fetches) begin(peer string) {
	f.end(peer)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.peers[peer] = &fetch{offers: map[string]offer{}}
}

func (f *fetches) end(peer string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.peers[peer]; p != nil {
		f.size -= len(p.offers)
		delete(f.peers, peer)
	}
	for id, a := range f.open {
		if a.peer == peer {
			delete(f.open, id)
		}
	}
}

// offered takes in what a peer has.
func (f *fetches) offered(peer string, stamps map[string]int64, fresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.peers[peer]
	if p == nil {
		return
	}
	for id, stamp := range stamps {
		if !validID(id) || stamp <= 0 {
			continue
		}
		before, had := p.offers[id]
		if !had {
			if f.full(p) {
				continue
			}
			f.size++
			p.todo = append(p.todo, id)
		}
		p.offers[id] = offer{stamp: stamp, fresh: fresh || before.fresh}
	}
}

// full reports whether there is no room for another offer of a peer. The peer's next
// index offers again what was left out.
func (f *fetches) full(p *fetch) bool {
	return f.size >= maxOffers || len(p.offers) >= maxOffersOfOne
}

// again tries what could not be asked for before.
func (f *fetches) again() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, a := range f.open {
		if f.now().Sub(a.at) > answerWithin {
			f.ask(a.peer, id, a.offer)
		}
	}
	for _, p := range f.peers {
		p.todo, p.later = append(p.todo, p.later...), nil
	}
}

// unasked takes back what a peer could not be asked for.
func (f *fetches) unasked(peer string, ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if a, ok := f.open[id]; ok && a.peer == peer {
			f.ask(peer, id, a.offer)
		}
	}
}

// ask ends a question, and notes that it is to be asked again.
func (f *fetches) ask(peer, id string, o offer) {
	delete(f.open, id)
	if p := f.peers[peer]; p != nil && !f.full(p) {
		if _, had := p.offers[id]; !had {
			p.offers[id] = o
			p.later = append(p.later, id)
			f.size++
		}
	}
}

// next returns the minions that a peer is to be asked for now.
func (f *fetches) next(peer string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.peers[peer]
	if p == nil {
		return nil
	}
	open := 0
	for _, a := range f.open {
		if a.peer == peer {
			open++
		}
	}
	var ids []string
	for len(p.todo) > 0 && open+len(ids) < maxOpen {
		id := p.todo[0]
		p.todo = p.todo[1:]
		o := p.offers[id]
		_, busy := f.open[id]
		if !busy {
			here, yes := f.needs(id, o)
			if !yes {
				p.drop(f, id)
				continue
			}
			if f.accepted(id) {
				f.open[id] = asked{peer, o, here, f.now()}
				p.drop(f, id)
				ids = append(ids, id)
				continue
			}
		}
		p.later = append(p.later, id)
	}
	return ids
}

func (p *fetch) drop(f *fetches, id string) {
	delete(p.offers, id)
	f.size--
}

// came ends a question, and gives the stamp that this master's own data had when it was
// asked. ok: it was.
func (f *fetches) came(peer, id string) (here int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.open[id]
	if !ok || a.peer != peer {
		return 0, false
	}
	delete(f.open, id)
	return a.here, true
}
