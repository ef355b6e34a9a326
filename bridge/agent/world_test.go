package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/retry"
)

// world stands for a fleet in a bubble of testing/synctest: masters with bridges
// that beat, a store that may fail, and minions that behave as Salt's were seen
// to. Times are the bubble's.
type world struct {
	mu      sync.Mutex
	began   time.Time
	masters []*simMaster
	broken  func(rows []fleet.Master) ([]fleet.Master, error) // the store's answer, if it is not the plain one
	reads   int
	minions int // as masters' rows say
}

// simMaster is a master and its bridge.
type simMaster struct {
	id, address, key string
	ready, draining  bool
	zone             string
	status           fleet.Status
	joined           time.Time
	died             time.Time // both; zero: they live
	bridgeDied       time.Time
	vanished         bool // its packets are lost, instead of refused
	hung             bool // its kernel takes connections, and nobody greets
	ports            Ports
	rowless          bool
}

func newWorld(n int) *world {
	w := &world{began: time.Now()}
	for range n {
		w.join()
	}
	return w
}

func (w *world) join() *simMaster {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.add()
}

// add is join for who holds the lock.
func (w *world) add() *simMaster {
	n := len(w.masters) + 1
	m := &simMaster{id: fmt.Sprintf("i-%08x", n), address: fmt.Sprintf("10.0.0.%d", n), key: "key", ready: true,
		status: fleet.Launch, joined: time.Now()}
	w.masters = append(w.masters, m)
	return m
}

// set changes the world.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) lives(address string) (m *simMaster, lives bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.masters, func(m *simMaster) bool { return m.address == address })
	if i < 0 {
		return nil, false
	}
	return w.masters[i], w.masters[i].died.IsZero()
}

// Masters implements the store's part.
func (w *world) Masters(ctx context.Context) ([]fleet.Master, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	var rows []fleet.Master
	for _, m := range w.masters {
		until := time.Now()
		for _, end := range []time.Time{m.died, m.bridgeDied} {
			if !end.IsZero() && end.Before(until) {
				until = end
			}
		}
		if m.rowless {
			continue
		}
		rows = append(rows, fleet.Master{PublishPort: m.ports.Publish, RetPort: m.ports.Ret, InstanceID: m.id,
			IPAddr: m.address, Status: m.status, Ready: m.ready, Draining: m.draining, Zone: m.zone,
			MasterKeySHA256: m.key, Minions: w.minions,
			Incarnation: "1", Heartbeat: 1 + int64(until.Sub(m.joined)/(5*time.Second))})
	}
	if w.broken != nil {
		return w.broken(rows)
	}
	return rows, nil
}

// simMinion is a minion, and its machine.
type simMinion struct {
	w    *world
	file File

	mu       sync.Mutex
	trusts   string
	others   []string // keys of a rotation
	to       []string // the masters that it is connected to
	served   time.Time
	running  []string // the list that it was started with
	jobs     []Job
	fail     int // restarts that will fail
	restarts []time.Time
	tried    int
	process  int
	asked    map[string][]time.Time // authentications, by master
	ended    bool                   // its process
	slow     time.Duration          // what it needs from the end of its restart until it is served
}

// startsWithin is what a minion needs from its restart until it is served.
const startsWithin = 6 * time.Second

// connect is the start of a minion that follows one at a time.
func (m *simMinion) connect(list []string) { m.start(list, false) }

func (m *simMinion) start(list []string, hot bool) {
	m.mu.Lock()
	m.running, m.to, m.process = list, nil, m.process+1
	m.mu.Unlock()
	for _, address := range list {
		if master, lives := m.w.lives(address); lives && (m.trusts == "" || m.trusts == master.key) {
			m.mu.Lock()
			if m.asked == nil {
				m.asked = map[string][]time.Time{}
			}
			m.asked[address] = append(m.asked[address], time.Now())
			m.to, m.served, m.trusts = append(m.to, address), time.Now(), master.key
			m.mu.Unlock()
			if !hot {
				return
			}
		}
	}
}

// Connected: a connection to a master whose packets are lost stays in the table. One
// to a port that nobody told of is not looked for.
func (m *simMinion) Connected(_ context.Context, known []Master) ([]string, error) {
	ports := []int{0, 4505}
	for _, m := range known {
		ports = append(ports, m.Ports.Publish)
	}
	m.mu.Lock()
	to := slices.Clone(m.to)
	m.mu.Unlock()
	return slices.DeleteFunc(to, func(address string) bool {
		master, lives := m.w.lives(address)
		return !lives && (master == nil || !master.vanished) ||
			master != nil && !slices.Contains(ports, master.ports.Publish)
	}), nil
}

func (m *simMinion) Process() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return ""
	}
	return fmt.Sprint(m.process)
}

func (m *simMinion) Answers(ctx context.Context, at Master) bool {
	master, lives := m.w.lives(at.Address)
	if !lives && (master == nil || master.vanished) {
		retry.Sleep(ctx, answerWithin)
	}
	return lives && !master.hung
}

func (m *simMinion) Jobs() ([]Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.jobs, nil
}

func (m *simMinion) TrustedKey() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trusts, nil
}

func (m *simMinion) OwnKey() (fleet.Proof, error) { return fleet.Proof{}, nil }
func (m *simMinion) MakeKey() (bool, error)       { return false, nil }

func (m *simMinion) OtherKeys() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.others, nil
}

func (m *simMinion) Trust(digest string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trusts = digest
	return nil
}

func (m *simMinion) Restart(ctx context.Context) error {
	m.mu.Lock()
	m.tried++
	if m.fail > 0 {
		m.fail--
		m.mu.Unlock()
		return errors.New("exit status 1")
	}
	m.restarts = append(m.restarts, time.Now())
	m.to = nil
	m.mu.Unlock()
	retry.Sleep(ctx, startsWithin)
	listed, err := m.file.Read()
	if m.slow > 0 {
		m.mu.Lock()
		m.process++
		process := m.process
		m.mu.Unlock()
		time.AfterFunc(m.slow, func() {
			if m.Process() == fmt.Sprint(process) {
				m.start(addressesOf(listed.Masters), listed.Hot)
			}
		})
		return err
	}
	m.start(addressesOf(listed.Masters), listed.Hot)
	return err
}

func (m *simMinion) master() string {
	to, _ := m.where()
	return to
}

// where is the master that the minion is connected to, and since when.
func (m *simMinion) where() (to string, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.to) == 0 {
		return "", m.served
	}
	return m.to[0], m.served
}

// since returns the restarts from then on.
func (m *simMinion) since(then time.Time) []time.Time { return m.between(then, time.Now()) }

// between returns the restarts of a stretch of time.
func (m *simMinion) between(from, to time.Time) []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.restarts),
		func(at time.Time) bool { return at.Before(from) || at.After(to) })
}

// memory is a drop-in without a disk. It is parsed when it is written: a thousand
// agents look at theirs every 5 s.
type memory struct {
	mu      sync.Mutex
	text    []byte
	listed  Listed
	ran     []byte // the text that the minion was started with
	pending PendingRestart
	writes  int
}

func (f *memory) Read() (Listed, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listed, nil
}

func (f *memory) Write(l List, running Running, trust string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := render(l, Ports{4505, 4506})
	if err != nil || bytes.Equal(text, f.text) {
		if f.pending.Pending {
			f.pending.Trust = trust
		}
		return false, err
	}
	switch process := running.Process; {
	case f.pending.Pending && f.pending.Running.sameProcess(process):
	case f.text == nil:
		f.pending.Running = running
	default:
		f.ran = f.text
		f.pending.Running = Running{addressesOf(f.listed.Masters), f.listed.Hot, process}
	}
	f.text, f.listed = text, parse(text)
	f.pending.Trust = trust
	f.pending.Pending, f.pending.Since = !bytes.Equal(text, f.ran), time.Now()
	f.writes++
	return true, nil
}

func (f *memory) PendingRestart() (PendingRestart, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pending, nil
}

func (f *memory) ClearPending() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending, f.ran = PendingRestart{}, f.text
	return nil
}

func (f *memory) Check(List) error                       { return nil }
func (f *memory) RemoveAlive([]string) ([]string, error) { return nil, nil }

// counted counts one agent's reads.
type counted struct {
	*world
	mu sync.Mutex
	at []time.Time
}

func (c *counted) Masters(ctx context.Context) ([]fleet.Master, error) {
	c.mu.Lock()
	c.at = append(c.at, time.Now())
	c.mu.Unlock()
	return c.world.Masters(ctx)
}

// between returns the reads of a stretch of time.
func (c *counted) between(from, to time.Time) []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.at), func(at time.Time) bool { return at.Before(from) || !at.Before(to) })
}

// simAgent is an agent with its minion.
type simAgent struct {
	minion *simMinion
	file   File
	store  *counted
	log    *agentLog
	options
}

type options = Options

// newAgent makes an agent, with a drop-in of its own; file may be nil.
func (w *world) newAgent(t testing.TB, id string, file File) *simAgent {
	t.Helper()
	if file == nil {
		file = &memory{}
	}
	s := &simAgent{minion: &simMinion{w: w, file: file}, file: file, store: &counted{world: w}, log: &agentLog{}}
	s.options = Options{MinionID: id, Order: Spread, Follow: FollowOne, Interval: time.Minute, Splay: time.Minute,
		Settle: 6 * time.Hour, Highstates: []string{"state.highstate"},
		Masters: s.store, Minion: s.minion, File: file, Log: slog.New(slog.NewTextHandler(s.log, nil))}
	return s
}

// run runs the agent until ctx ends.
func (s *simAgent) run(ctx context.Context, t testing.TB) {
	a, err := New(s.options)
	if err != nil {
		t.Error(err)
		return
	}
	if err := a.Run(ctx); err != nil {
		t.Error(err)
	}
}
