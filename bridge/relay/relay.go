package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
	"phoenix/bridge/member"
	"phoenix/bridge/salt"
)

// Member is what the relay asks of the bridge as a member of its master's fleet; see
// member.Member.
type Member interface {
	Sweep() error
	Leave() error
	Listen(ctx context.Context, h member.Handler) error
	Return(ctx context.Context, returns []member.Returns) error
	Fire(ctx context.Context, tag string, data map[string]any) error
}

// Publisher publishes another master's job here; see salt.Master.
type Publisher interface {
	Republish(ctx context.Context, jid string, load salt.Load) (minions []string, err error)
}

// Options are the parts of a relay.
type Options struct {
	Instance    string // this master's
	Incarnation string
	Listener    net.Listener
	All         bool // every master's returns come here, not only those of this one's jobs
	Member      Member
	Publisher   Publisher
	Masters     func(ctx context.Context) ([]fleet.Master, error)
	MastersIn   time.Duration // how often they are read
	Pair        Pair
	Cache       Cache                // the master's data of minions; nil: it is not shared
	Accepted    func(id string) bool // the master has accepted this minion's key
	Now         func() time.Time
	Log         *slog.Logger
	Decisions   *slog.Logger // what was published here for whom; nil: Log
}

// Relay is the relay of one bridge.
type Relay struct {
	o            Options
	memory       *memory
	records      *records
	handshakes   handshakes
	inject       *inbox
	malformedLog lineLimit // malformed returns
	notTakenLog  lineLimit // returns that the master did not take
	refusedLog   lineLimit // refused connections
	skippedLog   lineLimit // jobs that stay here
	forgedLog    lineLimit // events of jobs that the master did not publish
	suspects     suspects
	traffic      traffic
	dataLog      lineLimit // data of minions that was not written
	share        *share    // nil: there is no cache
	fetches      *fetches
	asking       chan struct{}
	refresh      chan struct{} // a master connected that the table may have by now

	mu        sync.Mutex
	peers     map[string]*peer
	askers    map[string]*asker
	asked     map[string]string // whose job it is, of those that were published here; ofMaster: of somebody here
	askedBy   []string          // keys of asked, oldest first
	listens   bool
	listenErr error // why it does not listen
	lastLost  *Lost
	counts    Counts
}

// Counts are what a relay did since it began.
type Counts struct {
	Carried       uint64 `json:"carried"`    // jobs of this master that were offered to others
	Skipped       uint64 `json:"skipped"`    // jobs that could not be: too large, not understood, not signed, read too late
	Published     uint64 `json:"published"`  // jobs of others that were published here
	Declined      uint64 `json:"declined"`   // jobs of others that were not
	Returns       uint64 `json:"returns"`    // that came from others
	Sent          uint64 `json:"sent"`       // returns that went to others
	Dropped       uint64 `json:"dropped"`    // returns that nobody had room for, or that the master did not take
	Malformed     uint64 `json:"malformed"`  // returns of others that would end the master's work on those beside them
	Refused       uint64 `json:"refused"`    // connections without the masters' key, or refused for another reason
	DataSent      uint64 `json:"data_sent"`  // data of minions that went to others
	DataTaken     uint64 `json:"data_taken"` // and that came from others
	BytesSent     uint64 `json:"bytes_sent"` // to other masters, as the network has them
	BytesReceived uint64 `json:"bytes_received"`
}

// New puts a relay together.
func New(o Options) (*Relay, error) {
	if o.Instance == "" || o.Listener == nil || o.Member == nil || o.Publisher == nil || o.Masters == nil || o.Pair == nil {
		return nil, errors.New("make relay: incomplete options")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Decisions == nil {
		o.Decisions = o.Log
	}
	if o.MastersIn == 0 {
		o.MastersIn = 5 * time.Second
	}
	r := &Relay{o: o, memory: newMemory(o.Now), records: newRecords(o.Now), inject: newInbox(), refresh: make(chan struct{}, 1),
		peers: map[string]*peer{}, askers: map[string]*asker{}, asked: map[string]string{}, asking: make(chan struct{}, 1)}
	if o.Cache != nil && o.Accepted != nil {
		r.share = newShare(o.Cache, o.Now, o.Log)
		r.fetches = newFetches(r.share.needs, o.Accepted, o.Now)
	}
	return r, nil
}

// Run relays until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	if err := r.o.Member.Sweep(); err != nil {
		r.o.Log.Warn("relay", "err", err)
	}
	defer func() {
		if err := r.o.Member.Leave(); err != nil {
			r.o.Log.Warn("relay", "err", err)
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.serve(ctx) })
	g.Go(func() error { r.listen(ctx); return nil })
	g.Go(func() error { r.passReturns(ctx); return nil })
	g.Go(func() error { r.followMasters(ctx); return nil })
	if r.share != nil {
		g.Go(func() error { r.offerChanges(ctx); return nil })
		g.Go(func() error { r.ask(ctx); return nil })
	}
	return g.Wait()
}

func (r *Relay) hello() message {
	return message{Kind: kindHello, Instance: r.o.Instance, Incarnation: r.o.Incarnation, All: r.o.All}
}

// Note makes a job known that is not to be relayed: Phoenix's own.
func (r *Relay) Note(jid string) {
	r.memory.take(jid, ofPhoenix, digest{})
	r.expects(jid, ofMaster)
}

// followMasters keeps a peer for each other master that has a relay.
func (r *Relay) followMasters(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	ends := map[string]context.CancelFunc{}
	told := ""
	for {
		r.endOldKeys()
		masters, err := r.o.Masters(ctx)
		switch {
		case err == nil:
			told = ""
			r.updatePeers(ctx, masters, ends, &running)
		case ctx.Err() == nil && err.Error() != told:
			told = err.Error()
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
func (r *Relay) updatePeers(ctx context.Context, masters []fleet.Master, ends map[string]context.CancelFunc, running *sync.WaitGroup) {
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
		p := &peer{name: name, address: address, hello: r.hello(), pair: r.o.Pair, now: r.o.Now, receive: r.receive, changed: r.changed, traffic: &r.traffic}
		own, end := context.WithCancel(ctx)
		r.peers[name], ends[name] = p, end
		running.Go(func() { p.run(own) })
	}
}

// peersOf gives the addresses of the other masters' relays.
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
	r.o.Log.Warn("relay: peer not reached; commands run on the other masters", "peer", p.name, "address", p.address, "err", err)
}

// Status is how the relay is doing.
type Status struct {
	Listen string `json:"listen"`
	Hears  bool   `json:"hears"` // what the master publishes
	Error  string `json:"error"` // why not
	Data   string `json:"data"`  // why data of minions is not shared; empty: it is
	Peers  []Peer `json:"peers"`
	Lost   *Lost  `json:"lost"` // the last job that did not reach a peer; null: none
	Counts
}

// Lost is a job of this master that did not reach another one.
type Lost struct {
	JID      string    `json:"jid"`
	Function string    `json:"function"`
	At       time.Time `json:"at"`
	Master   string    `json:"master"`
	State    string    `json:"state"`
	Why      string    `json:"why"`
	Minions  []string  `json:"minions"` // the first that are missing for it
	Count    int       `json:"count"`   // of all
}

// Peer is another master.
type Peer struct {
	Master    string    `json:"master"`
	Address   string    `json:"address"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Error     string    `json:"error,omitempty"`
	Minions   int       `json:"minions"` // that were seen there last
}

// Status may be called by any goroutine.
func (r *Relay) Status() Status {
	seen := r.records.minionsAt()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Listen: r.o.Listener.Addr().String(), Hears: r.listens, Lost: r.lastLost, Peers: []Peer{}, Counts: r.counts}
	s.BytesSent, s.BytesReceived = r.traffic.sent.Load(), r.traffic.received.Load()
	if r.listenErr != nil {
		s.Error = r.listenErr.Error()
	}
	if s.Data = "the master keeps no data of minions in files (minion_data_cache: True, cache: localfs)"; r.share != nil {
		s.Data = r.share.status()
	}
	for _, name := range sorted(r.peers) {
		p := r.peers[name].status()
		p.Minions = seen[name]
		s.Peers = append(s.Peers, p)
	}
	return s
}

// Jobs gives the jobs of this master, newest first.
func (r *Relay) Jobs() []Job { return r.records.list(r.o.Instance, maxRecords) }

// Job gives one of them.
func (r *Relay) Job(jid string) (Job, error) {
	job, ok := r.records.show(jid, r.o.Instance, true)
	if !ok {
		return Job{}, fmt.Errorf("job %s is not among the last %d that this master published since its bridge started", jid, maxRecords)
	}
	return job, nil
}
