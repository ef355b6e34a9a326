package service

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// machine is one master's: its Salt, its clock, and a bridge that comes and goes.
type machine struct {
	world  *world
	id     string
	clock  *clock
	up     bool // its salt-master
	gone   bool // for good
	ending bool // or soon
	cut    bool // from the store, since cutAt
	cutAt  time.Duration
	lives  int // of its bridge
	bridge *bridge
	keys   map[salt.State]map[string][]byte

	accepted acceptedInMemory // the file in which its bridges record accepted keys
	noted    acceptedInMemory // what they recorded
	deleted  map[string]*deletedKey
	ownJIDs  bool // its job cache makes jids of its own
}

func newMachine(w *world, id string) *machine {
	m := &machine{world: w, id: id, clock: newClock(w), up: true, keys: map[salt.State]map[string][]byte{},
		accepted: acceptedInMemory{}, noted: acceptedInMemory{}, deleted: map[string]*deletedKey{},
		ownJIDs: w.chance(w.perils.ownJIDs)}
	for _, state := range []salt.State{salt.Accepted, salt.Pending, salt.Rejected, salt.Denied} {
		m.keys[state] = map[string][]byte{}
	}
	w.after(w.between(0, 30*time.Second), m.start)
	return m
}

// start starts a bridge, as systemd does.
func (m *machine) start() {
	if m.bridge != nil || m.gone {
		return
	}
	w := m.world
	m.lives++
	b := &bridge{machine: m, incarnation: fmt.Sprintf("%s.%d", m.id, m.lives), doubts: map[string]string{}}
	cfg := Config{InstanceID: m.id, Incarnation: b.incarnation, Admit: decide.Bound,
		ValidID:   func(string) bool { return true },
		Highstate: decide.Policy{Enabled: true, Attempts: attempts, Lease: simLease, Breaker: w.perils.breaker},
		Function:  highstateFun, Concurrency: 1 + w.rng.IntN(3),
		ResyncEvery: ResyncEvery + w.between(-20*time.Second, 20*time.Second), PollEvery: time.Minute,
		UnknownFor: time.Minute}
	var accepted AcceptedKeys = m.accepted
	if w.forgets {
		accepted = acceptedInMemory{}
	}
	cfg.Accepted = recorder{accepted, m.noted}
	log := slog.New(slog.DiscardHandler)
	store := &line{memory: w.store, bridge: b}
	cfg.Breakers = store
	b.inbox = NewInbox()
	b.beats = NewHeartbeats(store, fleet.Beat{InstanceID: m.id, Incarnation: b.incarnation, Ready: true}, simLease,
		m.clock.now, log)
	b.engine = NewEngine(cfg, store, b, b, b.beats, b.inbox, NewAudit(log), m.clock.now, log)
	b.engine.rule = b.decides
	m.bridge = b
	w.log("%s: bridge %s starts", m.id, b.incarnation)
	b.next = -1
	b.beat()
	b.wake(0)
}

// stop ends the bridge without a word.
func (m *machine) stop(why string) {
	if m.bridge != nil {
		m.world.log("%s: bridge %s ends: %s", m.id, m.bridge.incarnation, why)
		m.bridge = nil
	}
}

// down ends the salt-master.
func (m *machine) down() {
	m.world.log("%s: salt-master ends", m.id)
	m.up = false
	for _, minion := range m.world.minions {
		delete(minion.links, m)
	}
}

func (m *machine) back() {
	if m.gone || m.up {
		return
	}
	m.world.log("%s: salt-master is back", m.id)
	m.up = true
	m.event(func(b *bridge) { b.inbox.Gap("the bus was away") })
}

// event brings something to the bridge, some time, if at all.
func (m *machine) event(tell func(*bridge)) {
	w, b := m.world, m.bridge
	if b == nil || !m.up || w.peril(w.perils.lose) {
		w.saw("event lost")
		return
	}
	times := 1
	if w.peril(w.perils.duplicate) {
		times = 2
	}
	for range times {
		late := w.about(20 * time.Millisecond)
		if w.peril(w.perils.delay) {
			late = w.about(20 * time.Second)
		}
		w.after(late, func() {
			if m.bridge == b {
				tell(b)
				b.poke()
			}
		})
	}
}

// bridge is one process: the real engine, heartbeat and inbox.
type bridge struct {
	machine     *machine
	incarnation string
	engine      *Engine
	beats       *Heartbeats
	inbox       *Inbox

	next    time.Duration // when its engine steps; negative: not planned
	working bool          // its engine is within a step
	beating bool          // its heartbeat is within a call
	frozen  bool          // all of it
	doubts  map[string]string
	open    int64 // the version of the breaker that it read last, if that is open
}

// crash is what a bridge that is killed within a call panics with.
type crash struct{}

// alive does fn, as long as the process lives.
func (b *bridge) alive(fn func()) {
	defer func() {
		if r := recover(); r != nil {
			if _, killed := r.(crash); !killed {
				panic(r)
			}
			b.machine.world.saw("crash within a call")
			if b.machine.bridge == b {
				b.machine.crashed()
			}
		}
	}()
	if b.machine.bridge == b {
		fn()
	}
}

func (b *bridge) beat() {
	w := b.machine.world
	if !b.frozen && !b.beating {
		b.alive(func() {
			b.beating = true
			b.beats.Tick(context.Background())
			b.beating = false
			b.poke()
		})
	}
	if b.machine.bridge == b {
		w.after(b.machine.clock.real(beatEvery)+w.about(10*time.Millisecond), b.beat)
	}
}

// poke steps the engine soon if it was woken; see Engine.Run.
func (b *bridge) poke() {
	if b.working || b.frozen {
		return // it looks when it is done
	}
	woken := false
	select {
	case <-b.inbox.Wake():
		woken = true
	default:
	}
	select {
	case <-b.beats.Changed():
		woken = true
	default:
	}
	if woken {
		b.wake(b.machine.world.about(10 * time.Millisecond))
	}
}

func (b *bridge) wake(in time.Duration) {
	w := b.machine.world
	at := w.now + in
	if b.next >= 0 && b.next <= at {
		return
	}
	b.next = at
	w.after(in, func() {
		if b.next == at && !b.working && !b.frozen {
			b.alive(b.step)
		}
	})
}

func (b *bridge) step() {
	w := b.machine.world
	w.saw("step")
	b.working = true
	next := b.engine.Step(context.Background())
	b.working = false
	b.next = -1
	b.wake(max(b.machine.clock.real(next.Sub(b.machine.clock.now())), time.Millisecond))
	b.poke()
}

// call is one call to the store or the master, and what may befall it.
func (b *bridge) call(what string, store bool, lost error, do func()) error {
	w, p := b.machine.world, b.machine.world.perils
	hit := func(rate float64, what string) bool {
		if !w.peril(rate) {
			return false
		}
		w.saw(what)
		return true
	}
	if hit(p.crash, "crash before a call") {
		w.log("%s: killed before: %s", b.incarnation, what)
		panic(crash{})
	}
	if strings.HasPrefix(what, "publish") {
		p.pause *= 5 // the one that no lease helps against
	}
	if hit(p.pause, "stopped world") {
		b.halt(w.about(time.Minute), true, what)
	}
	if hit(p.slow, "slow call") {
		b.halt(w.about(10*time.Second), false, what)
	}
	if store && b.machine.cut || hit(p.before, "call lost") {
		if what != "beat" {
			w.log("%s: lost: %s", b.incarnation, what)
		}
		return fmt.Errorf("%s: %w", what, lost)
	}
	do()
	if hit(p.crash, "crash after a call") {
		w.log("%s: killed after: %s", b.incarnation, what)
		panic(crash{})
	}
	if hit(p.after, "answer lost") {
		w.log("%s: answer lost: %s", b.incarnation, what)
		return fmt.Errorf("%s: %w", what, lost)
	}
	return nil
}

// halt lets time pass within a call: of the whole process, or of the call.
func (b *bridge) halt(d time.Duration, all bool, what string) {
	w := b.machine.world
	w.log("%s: halts for %v (all: %v) before: %s", b.incarnation, d.Round(time.Millisecond), all, what)
	was := b.frozen
	b.frozen = b.frozen || all
	w.run(w.now + d)
	b.frozen = was
	if b.machine.bridge != b {
		panic(crash{})
	}
	if !b.frozen && !b.working {
		b.next = -1
		b.wake(0)
	}
}

// decides is the rule, and takes note of what it is asked.
func (b *bridge) decides(p decide.Policy, s decide.Self, owner decide.Liveness, c decide.HighstateView,
	now time.Time) decide.Step {
	step := b.machine.world.rule(p, s, owner, c, now)
	b.machine.world.decided(b, owner, c, step)
	return step
}
