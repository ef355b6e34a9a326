package swarm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"phoenix/bridge/retry"
)

const (
	// jidQueue is minion_jid_queue_hwm, of all three series.
	jidQueue = 100
	// returnTries is return_retry_tries.
	returnTries = 3
	// reconnectFirst and reconnectMost are recon_default and recon_max: libzmq waits
	// longer each time, and each minion begins at random between them.
	reconnectFirst = time.Second
	reconnectMost  = 10 * time.Second
)

// minion is one of the swarm.
type minion struct {
	s     *Swarm
	id    string
	key   key
	doing sync.WaitGroup // what it does beside listening

	authing sync.Mutex // held by who authenticates anew

	mu      sync.Mutex // guards what follows
	came    [points]time.Time
	up      bool
	at      int // index of its master
	creds   creds
	serial  int64    // of the last publish under creds.aes
	jids    []string // the newest last
	running map[string]*job
	state   string // jid of the state function that runs
	runs    int    // state functions begun
	cached  map[string]map[string]any
	order   []string // of cached, the newest last
}

func (m *minion) reach(p Point) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.came[p].IsZero() {
		m.came[p] = time.Now()
	}
}

func (m *minion) master() *master {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.s.masters[m.at]
}

// next goes to the next master.
func (m *minion) next() {
	m.s.count(func(c *Counts) { c.Failovers++ })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = (m.at + 1) % len(m.s.masters)
}

// run plays the minion until ctx ends.
func (m *minion) run(ctx context.Context) {
	fresh := true
	first := reconnectFirst + rand.N(reconnectMost)
	wait := first
	for ctx.Err() == nil {
		ms := m.master()
		if fresh && !m.authenticate(ctx, ms) {
			if m.s.failover() {
				m.next()
			}
			continue
		}
		w, err := m.subscribe(ms)
		if err == nil {
			wait = first
			m.reach(Connected)
			m.setUp(true)
			if fresh {
				m.doing.Go(func() { m.start(ctx, ms) })
			}
			m.listen(ctx, ms, w)
			m.setUp(false)
		}
		switch {
		case m.s.failover():
			fresh = true
			m.next()
			retry.Sleep(ctx, rand.N(m.s.cfg.Jitter))
		default: // libzmq connects again, and the minion does not know
			fresh = false
			retry.Sleep(ctx, wait+rand.N(first))
			wait = min(2*wait, max(first, reconnectMost))
		}
	}
}

func (m *minion) setUp(up bool) {
	m.s.count(func(c *Counts) {
		if up {
			c.Connects++
		} else {
			c.Disconnects++
		}
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.up = up
}

func (m *minion) subscribe(ms *master) (*wire, error) {
	m.mu.Lock()
	port := m.creds.pubPort
	m.mu.Unlock()
	w, err := dial(net.JoinHostPort(ms.host, strconv.Itoa(port)), "SUB", 512)
	if err != nil {
		return nil, err
	}
	if err := w.send(frame(0, []byte{1})); err != nil { // to everything
		_ = w.Close() // it never served
		return nil, err
	}
	return w, nil
}

// authenticate sends auth requests until the minion is let in. With several masters
// it gives up one that does not answer.
func (m *minion) authenticate(ctx context.Context, ms *master) bool {
	for ctx.Err() == nil {
		m.s.count(func(c *Counts) { c.Auths++ })
		v, got, err := ms.auth(ctx, m.id, m.key, m.s.secret)
		switch {
		case ctx.Err() != nil:
			return false
		case errors.Is(err, errUnanswered):
			m.s.count(func(c *Counts) { c.Unanswered++ })
			if m.s.failover() {
				retry.Sleep(ctx, rand.N(m.s.cfg.Jitter))
				return false
			}
		case err != nil:
			m.s.fault(fmt.Errorf("authenticate: %w", err))
		case v == accepted:
			m.reach(Accepted)
			m.mu.Lock()
			if m.creds.aes != got.aes {
				m.serial = 0
			}
			m.creds = got
			m.mu.Unlock()
			return true
		case v == rejected:
			m.s.count(func(c *Counts) { c.Rejected++ })
		default:
			m.s.count(func(c *Counts) { c.Pending++ })
		}
		// From when the answer came, as a minion does; thousands that were started at
		// once do not stay in step.
		retry.Sleep(ctx, m.s.cfg.Retry*9/10+rand.N(m.s.cfg.Retry/5+1))
	}
	return false
}

// again authenticates anew, unless that was done since old was read.
func (m *minion) again(ctx context.Context, ms *master, old creds) {
	m.authing.Lock()
	defer m.authing.Unlock()
	m.mu.Lock()
	changed := m.creds != old
	m.mu.Unlock()
	if changed {
		return
	}
	m.s.count(func(c *Counts) { c.Reauths++ })
	retry.Sleep(ctx, rand.N(m.s.cfg.Jitter))
	m.authenticate(ctx, ms)
}

// start says that the minion is connected, and runs what it runs by itself.
func (m *minion) start(ctx context.Context, ms *master) {
	for _, tag := range []string{"minion_start", "salt/minion/" + m.id + "/start"} {
		load := map[string]any{"cmd": "_minion_event", "pretag": nil, "tag": tag,
			"data": "Minion " + m.id + " started at " + time.Now().Format(time.ANSIC)}
		if err := m.send(ctx, ms, load); err != nil {
			if ctx.Err() == nil {
				m.s.fault(fmt.Errorf("send start event: %w", err))
			}
			return
		}
	}
	m.reach(Started)
	if m.s.cfg.Startup {
		// The master gives the return a jid of its own (salt/minion.py, _state_run).
		m.do(ctx, &job{jid: "req", fun: "state.highstate"})
	}
}

// send sends an encrypted request: again where the master did not answer, and after
// a new auth request where it refuses the minion's session key.
func (m *minion) send(ctx context.Context, ms *master, load map[string]any) error {
	var err error
	for try := range returnTries {
		if try > 0 {
			m.s.count(func(c *Counts) { c.Resent++ })
			if !retry.Sleep(ctx, time.Second+rand.N(m.s.cfg.Jitter)) {
				return ctx.Err()
			}
		}
		m.mu.Lock()
		c := m.creds
		m.mu.Unlock()
		if err = m.ask(ctx, ms, c.session, load); err == nil || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, errUnanswered) {
			m.s.count(func(c *Counts) { c.Unanswered++ })
			continue
		}
		m.again(ctx, ms, c)
	}
	return err
}

func (m *minion) ask(ctx context.Context, ms *master, session *crypticle, load map[string]any) error {
	nonce := newNonce()
	load["nonce"], load["ts"], load["tok"], load["id"] = nonce, time.Now().Unix(), m.key.token, m.id
	inner, err := marshal(load)
	if err != nil {
		return err
	}
	outer, err := marshal(map[string]any{"enc": "aes", "load": session.encrypt(inner), "version": 3, "id": m.id,
		"enc_algo": "OAEP-SHA1", "sig_algo": "PKCS1v15-SHA1"})
	if err != nil {
		return err
	}
	body, err := ms.send(ctx, outer)
	if err != nil {
		return err
	}
	return readAnswer(session, body, nonce)
}
