package relay

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/member"
	"phoenix/bridge/salt"
)

var keyOfTests = sync.OnceValue(newKey)
var keyOfStrangers = sync.OnceValue(newKey)

func newKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

func ours() (*rsa.PrivateKey, error)      { return keyOfTests(), nil }
func strangers() (*rsa.PrivateKey, error) { return keyOfStrangers(), nil }

// world is some relays on loopback, each with a master that only notes what it is
// told: it stands for the publish port, the request channel and the event bus, which
// the end-to-end tests have for real.
type world struct {
	t         testing.TB
	mu        sync.Mutex
	rows      []fleet.Master
	all       bool                 // relay.jobs: all
	decisions *slog.Logger         // the audit trail
	caches    bool                 // masters have data of minions
	accepted  func(id string) bool // nil: of any
	before    func(c *memoryCache) // fills the cache of the next
	sides     []*side
	cancel    []context.CancelFunc
}

type side struct {
	*Relay
	name           string
	publishes      func(load map[string][]byte) // what the master publishes, it says here
	publishHandler member.Handler
	ready          chan struct{}
	cache          *memoryCache

	told chan string // each job published and each return taken; nil: nobody waits

	mu        sync.Mutex
	published []string
	returned  []string
	fired     []string
	fails     error
	poison    string // the id of a minion whose return ends the request, as an exception does
}

func (s *side) Sweep() error { return nil }
func (s *side) Leave() error { return nil }

func (s *side) Listen(ctx context.Context, h member.Handler) error {
	s.publishHandler = h
	s.publishes = func(load map[string][]byte) { h.Job(load, time.Now()) }
	h.Connected()
	close(s.ready)
	<-ctx.Done()
	return ctx.Err()
}

func (s *side) Return(_ context.Context, returns []member.Returns) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range returns {
		for _, id := range sorted(r.Values) {
			if id == s.poison {
				return member.ErrNotAll
			}
			values := r.Values[id]
			// As the master does: the return is on its bus.
			data := map[string]any{"jid": r.JID, "id": id}
			for k, v := range values {
				data[k] = v
			}
			s.Event(event.Event{Kind: event.KindReturn, JID: []byte(r.JID), ID: []byte(id), Data: packed(data)})
			s.returned = append(s.returned, r.JID+" "+id)
			s.tell(id)
		}
	}
	return nil
}

func (s *side) Fire(_ context.Context, tag string, data map[string]any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fired = append(s.fired, fmt.Sprintf("%s %v %v", tag, data["master"], data["minions"]))
	return nil
}

// errHangs: the master does not answer.
var errHangs = errors.New("hangs")

func (s *side) Republish(ctx context.Context, jid string, _ salt.Load) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails == errHangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s.fails != nil {
		return nil, s.fails
	}
	s.published = append(s.published, jid)
	s.tell(jid)
	// The master publishes it, and the bridge hears that.
	go s.publishes(jobLoad(jid))
	return []string{"web-1"}, nil
}

func (s *side) tell(what string) {
	if s.told != nil {
		s.told <- what
	}
}

func (s *side) seen(list *[]string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(*list)
}

// minion says that a minion returned on this master's bus.
func (s *side) minion(jid, id string) {
	data, err := msgpack.Marshal(map[string]any{"jid": jid, "id": id, "return": true, "retcode": 0, "fun": "test.ping",
		"cmd": "_return"})
	if err != nil {
		panic(err)
	}
	s.Event(event.Event{Kind: event.KindReturn, JID: []byte(jid), ID: []byte(id), Data: data})
}

func jobLoad(jid string) map[string][]byte {
	return map[string][]byte{"jid": packed(jid), "fun": packed("test.ping"), "arg": {0x90}, "tgt": packed("*"),
		"tgt_type": packed("glob"),
		"user":     packed("root"), "ret": packed("")}
}

func newWorld(t testing.TB, names ...string) *world {
	return (&world{t: t}).with(names...)
}

func (w *world) with(names ...string) *world {
	for _, name := range names {
		w.add(name, ours)
	}
	for _, s := range w.sides {
		w.waitFor(s.name+" reaches its peers", func() bool {
			status := s.Status()
			return len(status.Peers) == len(w.sides)-1 && !slices.ContainsFunc(status.Peers,
				func(p Peer) bool { return !p.Connected })
		})
	}
	return w
}

func (w *world) add(name string, pair Pair) *side { return w.addWith(name, pair, w.all) }

func (w *world) addWith(name string, pair Pair, all bool) *side {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.rows = append(w.rows, fleet.Master{InstanceID: name, Status: fleet.Launch, Relay: l.Addr().String()})
	w.mu.Unlock()
	s := &side{name: name, ready: make(chan struct{})}
	o := Options{Instance: name, Listener: l, Member: s, Publisher: s, Pair: pair, All: all,
		MastersIn: 20 * time.Millisecond,
		Log:       silent, Decisions: w.decisions, Masters: func(context.Context) ([]fleet.Master, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.Clone(w.rows), nil
		}}
	if w.caches {
		s.cache = newMemoryCache()
		if w.before != nil {
			w.before(s.cache)
		}
		o.Cache, o.Accepted = s.cache, func(id string) bool { return w.accepted == nil || w.accepted(id) }
	}
	s.Relay, err = New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			w.t.Error(err)
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	<-s.ready
	w.sides = append(w.sides, s)
	w.cancel = append(w.cancel, func() { cancel(); <-done })
	return s
}

var silent = slog.New(slog.DiscardHandler)

func (w *world) waitFor(what string, so func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("waited for: %s", what)
		}
	}
}

// eventOf is an event of the bus.
func eventOf(tag string, data map[string]any) event.Event {
	return event.Event{Tag: []byte(tag), Data: packed(data)}
}

func (c *memoryCache) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sorted(c.stamps)
}

func (c *memoryCache) writes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.written
}

// scans is how often the cache was listed.
func (s *side) scans() int {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	return s.cache.lists
}

// offers is how many minions peers have offered that were not asked for.
func (s *side) offers() int {
	s.fetches.mu.Lock()
	defer s.fetches.mu.Unlock()
	return s.fetches.size
}

func row(name, address string) fleet.Master {
	return fleet.Master{InstanceID: name, Status: fleet.Launch, Relay: address}
}

// linkTo is the connection to a peer; nil: there is none.
func (s *side) linkTo(peer string) *link {
	s.Relay.mu.Lock()
	p := s.peers[peer]
	s.Relay.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link
}
