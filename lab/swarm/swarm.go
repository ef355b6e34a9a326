package swarm

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// most minions of a swarm: each has a connection, and two goroutines.
	most = 5000
	// spareFiles may be open beside the minions' connections.
	spareFiles = 200
)

// Config says what is played.
type Config struct {
	IDs []string
	// Masters are loopback addresses of request ports. With more than one, minions
	// are of failover type; Spread begins each with another one.
	Masters []string
	Spread  bool

	Keys      int           // key pairs, which minions share in turn; default 1
	Retry     time.Duration // acceptance_wait_time; default 10 s, as Salt's
	Highstate time.Duration // how long a state function takes
	Startup   bool          // startup_states: highstate
	Jitter    time.Duration // random_reauth_delay, at most; default 10 s, as Salt's
	Silence   time.Duration // a master from which nothing came for so long is lost; 0: only its connection tells
	Answer    time.Duration // how long a request is waited for; default a minute, as Salt's
}

// Swarm is a fleet of minions.
type Swarm struct {
	cfg     Config
	keys    []key
	secret  string // the minions' token, by which they know their master
	masters []*master
	minions []*minion
	begun   time.Time

	mu     sync.Mutex // guards what follows
	counts Counts
	faults map[string]int
}

// Counts are what happened, to all minions together.
type Counts struct {
	Auths, Pending, Rejected    int // auth requests sent; answers that did not let in
	Reauths                     int // since the AES key had changed, or a request was refused
	Connects, Disconnects       int // of the publish connections
	Publishes, Returns, Resent  int // read; taken in; sent again
	DroppedJIDs, Busy, States   int // a jid seen before; state functions refused beside another; begun
	Unanswered, Failovers, Jobs int // requests; moves to another master; jobs begun
}

// New checks cfg and makes the key pairs. Nothing is sent before [Swarm.Run].
func New(cfg Config) (*Swarm, error) {
	if len(cfg.IDs) == 0 || len(cfg.IDs) > most {
		return nil, fmt.Errorf("make swarm: %d minions, not 1 to %d", len(cfg.IDs), most)
	}
	if len(cfg.Masters) == 0 {
		return nil, errors.New("make swarm: it needs a master")
	}
	for _, d := range []struct {
		value *time.Duration
		by    time.Duration
	}{{&cfg.Retry, 10 * time.Second}, {&cfg.Jitter, 10 * time.Second}, {&cfg.Answer, time.Minute}} {
		if *d.value == 0 {
			*d.value = d.by
		}
	}
	if err := allowFiles(len(cfg.IDs) + spareFiles); err != nil {
		return nil, fmt.Errorf("make swarm: %w", err)
	}
	keys, err := newKeys(min(max(cfg.Keys, 1), len(cfg.IDs)))
	if err != nil {
		return nil, fmt.Errorf("make swarm: %w", err)
	}
	var secret [56]byte
	rand.Read(secret[:])
	s := &Swarm{cfg: cfg, keys: keys, secret: base64.StdEncoding.EncodeToString(secret[:]), faults: map[string]int{}}
	for _, addr := range cfg.Masters {
		m, err := newMaster(addr, cfg.Answer)
		if err != nil {
			return nil, fmt.Errorf("make swarm: %w", err)
		}
		s.masters = append(s.masters, m)
	}
	for i, id := range cfg.IDs {
		if strings.ContainsAny(id, "/,*?[]\\") {
			return nil, fmt.Errorf("make swarm: id %q", id)
		}
		m := &minion{s: s, id: id, key: keys[i%len(keys)], running: map[string]*job{},
			cached: map[string]map[string]any{}}
		if cfg.Spread {
			m.at = i % len(s.masters)
		}
		s.minions = append(s.minions, m)
	}
	return s, nil
}

// PublicKey is the public key of the i-th minion, as it sends it.
func (s *Swarm) PublicKey(i int) string { return s.minions[i].key.pub }

// Run plays all minions, from the first auth request on, until ctx ends.
func (s *Swarm) Run(ctx context.Context) {
	var playing sync.WaitGroup
	s.mu.Lock()
	s.begun = time.Now()
	s.mu.Unlock()
	for _, m := range s.masters {
		for range requestConns {
			playing.Go(func() { m.work(ctx) })
		}
	}
	for _, m := range s.minions {
		playing.Go(func() { m.run(ctx) })
	}
	playing.Wait()
	for _, m := range s.minions {
		m.doing.Wait()
	}
}

// Counts are what happened up to now.
func (s *Swarm) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Faults are what was not as it should be, with how often each was seen: a wrong
// signature, a serial that went back, a return that was never taken.
func (s *Swarm) Faults() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]int, len(s.faults))
	for what, n := range s.faults {
		out[what] = n
	}
	return out
}

// count changes the counts.
func (s *Swarm) count(change func(*Counts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.counts)
}

// maxFaults is how many different ones are kept.
const maxFaults = 50

func (s *Swarm) fault(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what := err.Error()
	if _, known := s.faults[what]; !known && len(s.faults) >= maxFaults {
		what = "others"
	}
	s.faults[what]++
}

func (s *Swarm) failover() bool { return len(s.masters) > 1 }

// allowFiles lets this process have so many files open.
func allowFiles(n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Cur >= uint64(n) {
		return nil
	}
	limit.Cur = uint64(n)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("have %d files open, of %d allowed: %w", n, limit.Max, err)
	}
	return nil
}
