package relay

import (
	"context"
	"errors"
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
	Carried uint64 `json:"carried"` // jobs of this master that were offered to others
	// jobs that could not be: too large, not understood, not signed, read too late
	Skipped       uint64 `json:"skipped"`
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
	if o.Instance == "" || o.Listener == nil || o.Member == nil || o.Publisher == nil || o.Masters == nil ||
		o.Pair == nil {
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
	r := &Relay{o: o, memory: newMemory(o.Now), records: newRecords(o.Now), inject: newInbox(),
		refresh: make(chan struct{}, 1),
		peers:   map[string]*peer{}, askers: map[string]*asker{}, asked: map[string]string{},
		asking: make(chan struct{}, 1)}
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
