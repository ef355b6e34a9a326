package service

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// minion is a Salt minion, as far as jobs go.
type minion struct {
	world    *world
	id       string
	key      []byte
	failover bool // served by one master at a time; else by all ("hot")
	cache    bool // cache_jobs
	links    map[*machine]*link
	current  int // failover: index of its master

	life   int             // of its process
	seen   memory100       // the jid_queue, lost with the process
	runs   map[string]*run // the proc folder: what runs, by jid
	queued map[string]bool // jids that wait in its queue, as state_queue and process_count_max have it
	ended  map[string]event.Return

	births     int  // of its instance: a name may come again
	terminated bool // its row says so
	dead       bool // its instance is gone
	awaited    bool // its name comes again

	first     map[string]int // jid -> life in which it first came
	succeeded string         // jid of the first highstate that did
	excused   bool           // something happened that docs/guarantees.md excepts
	own       map[string]*ownJID
	ranAt     time.Duration // when a highstate last ended
}

// link is one connection to a master.
type link struct{}

// run is one highstate that a minion runs.
type run struct{ jid string }

// hwm is Salt's minion_jid_queue_hwm.
const hwm = 100

// memory100 is what a minion remembers of jids: the last hundred that came, those
// of others' jobs, which come all the time, among them.
type memory100 struct {
	at    map[string]float64 // the number of the job that had that jid
	count float64            // jobs that came
	last  time.Duration
	rate  float64 // others' jobs in a second
}

// sees records a jid, and reports whether it is remembered.
func (q *memory100) sees(jid string, now time.Duration) bool {
	q.count += q.rate * (now - q.last).Seconds()
	q.last = now
	if at, ok := q.at[jid]; ok && q.count-at < hwm {
		return true
	}
	if q.at == nil {
		q.at = map[string]float64{}
	}
	q.count++
	q.at[jid] = q.count
	return false
}

func newMinion(w *world, id string, n int) *minion {
	m := &minion{world: w, id: id, key: publicKey(n), failover: w.chance(0.5), cache: !w.chance(w.perils.noCache),
		links: map[*machine]*link{}, runs: map[string]*run{}, queued: map[string]bool{},
		ended: map[string]event.Return{},
		first: map[string]int{}, current: w.rng.IntN(len(w.machines))}
	m.seen.rate = w.perils.chatter
	w.store.minions[id] = fleet.Minion{InstanceID: id, Status: fleet.Launch}
	w.after(w.about(30*time.Second), m.knock)
	return m
}

// publicKey makes a key that nobody has the private half of.
func publicKey(n int) []byte {
	modulus := new(big.Int).Lsh(big.NewInt(1), 1023)
	modulus.Add(modulus, big.NewInt(int64(2*n+1)))
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: modulus, E: 65537})
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// knock connects to the masters that it should be connected to, or repeats its auth
// request.
func (m *minion) knock() {
	w := m.world
	w.after(w.between(8*time.Second, 12*time.Second), m.knock)
	if m.dead {
		return
	}
	if !m.failover {
		for _, machine := range w.machines {
			m.connect(machine)
		}
		return
	}
	for range w.machines {
		if w.machines[m.current].up {
			break
		}
		m.current = (m.current + 1) % len(w.machines)
	}
	m.connect(w.machines[m.current])
}

func (m *minion) connect(to *machine) {
	w := m.world
	if !to.up || m.links[to] != nil {
		return
	}
	of := func(state salt.State) []byte { return to.keys[state][m.id] }
	switch {
	case of(salt.Accepted) != nil && !bytes.Equal(of(salt.Accepted), m.key),
		of(salt.Accepted) == nil && of(salt.Pending) != nil && !bytes.Equal(of(salt.Pending), m.key):
		to.keys[salt.Denied][m.id] = m.key
		to.event(func(b *bridge) { b.inbox.Enqueue(m.id, false) })
	case of(salt.Accepted) == nil:
		to.keys[salt.Pending][m.id] = m.key
		to.event(func(b *bridge) { b.inbox.Enqueue(m.id, false) })
	default:
		w.log("%s: connected to %s", m.id, to.id)
		m.links[to] = &link{}
		if w.chance(w.perils.silent) {
			w.saw("connected without a word") // Salt 3006, after a reconnect
			return
		}
		to.event(func(b *bridge) { b.inbox.Enqueue(m.id, true) })
	}
}

// move fails over to another master, while the first one lives.
func (m *minion) move() {
	m.world.log("%s: moves", m.id)
	m.links = map[*machine]*link{}
	m.current = m.world.rng.IntN(len(m.world.machines))
	m.world.saw("minion moved")
}

// restart ends the process. Salt's unit has KillMode=process, so a running job
// may outlive it; by an out-of-memory kill or a reboot it does not.
func (m *minion) restart() {
	w := m.world
	m.life++
	m.links, m.seen = map[*machine]*link{}, memory100{rate: m.seen.rate, last: w.now}
	w.saw("minion restarted")
	if w.chance(0.5) {
		for _, jid := range slices.Sorted(maps.Keys(m.runs)) {
			w.log("%s: its job %s is killed", m.id, jid)
		}
		clear(m.runs)
	}
	w.log("%s: restarts", m.id)
}

// terminate ends its instance: first its row says so, as the queue of some master
// writes it, then it is gone. Its name may come again, for another.
func (m *minion) terminate() {
	w := m.world
	if m.terminated {
		return
	}
	w.log("%s: is terminated", m.id)
	w.saw("terminated")
	m.terminated = true
	w.message(fleet.Retire{InstanceID: m.id})
	w.after(w.about(time.Minute), func() {
		w.log("%s: is gone", m.id)
		m.life++
		m.dead, m.links = true, map[*machine]*link{}
		clear(m.runs)
		clear(m.queued)
		if w.chance(0.5) && w.faulty {
			m.awaited = true
			w.after(w.about(3*time.Minute), m.comesAgain)
		}
	})
}

// comesAgain: another instance has the name, with its own key. An operator adds it
// after no master has a key of the former one any more, not even a pending one: the
// first auth request under a listed id is accepted.
func (m *minion) comesAgain() {
	w := m.world
	if len(w.held(m, salt.Accepted, salt.Pending)) > 0 {
		w.after(30*time.Second, m.comesAgain)
		return
	}
	w.log("%s: its name comes again", m.id)
	w.saw("revived")
	m.births++
	m.key = publicKey(1000*m.births + len(w.minions))
	m.terminated, m.dead, m.awaited, m.succeeded, m.excused = false, false, false, "", false
	m.seen, m.ended, m.first = memory100{rate: m.seen.rate, last: w.now}, map[string]event.Return{}, map[string]int{}
	m.own = nil
	for _, machine := range w.machines {
		delete(machine.deleted, m.id)
	}
	w.message(fleet.Add{InstanceID: m.id, Revive: true})
	w.jids[m.id] = nil
}

// byHand runs a highstate that is not ours: salt-call, a schedule.
func (m *minion) byHand() {
	w := m.world
	if len(m.runs) > 0 || m.dead {
		return
	}
	w.log("%s: runs a highstate by hand", m.id)
	w.hands++
	r := &run{jid: fmt.Sprintf("by hand %d", w.hands)}
	m.runs[r.jid] = r
	for range 1 + w.rng.IntN(2)*9 { // a minute, or ten of them
		w.after(w.about(time.Minute), func() { m.over(r) })
	}
	w.after(w.about(10*time.Minute), func() { m.over(r) })
}

// over takes a run out of the proc folder: whatever has its jid by then.
func (m *minion) over(r *run) (ran bool) {
	ran = m.runs[r.jid] == r
	if ran {
		delete(m.runs, r.jid)
	}
	return ran
}

// receive takes a job from a master, unless it remembers the jid.
func (m *minion) receive(from *machine, jid string, do func()) {
	if m.seen.sees(jid, m.world.now) {
		m.world.log("%s: drops %s from %s: seen before", m.id, jid, from.id)
		m.world.saw("jid dropped by the minion")
		if m.world.lately(m.id, jid) {
			m.world.saw("late publish dropped by the minion")
		}
		return
	}
	if do != nil {
		do()
	}
}

// highstate runs one, which takes its time to begin, to run and to return. Some
// wait in a queue of the minion's before.
func (m *minion) highstate(from *machine, jid string) func() {
	w := m.world
	late := w.lately(m.id, jid)
	return func() {
		known, came := m.first[jid]
		if !came {
			m.first[jid] = m.life
		}
		forgotten := came // it has seen it, and does not know
		if forgotten && known == m.life {
			w.saw("jid forgotten by the minion")
		}
		wait := w.about(time.Second)
		if w.chance(w.perils.queue) {
			w.log("%s: %s waits in its queue", m.id, jid)
			w.saw("queued by the minion")
			m.queued[jid] = true // a file: it survives the process
			w.after(w.about(time.Minute), func() {
				if m.queued[jid] {
					delete(m.queued, jid)
					m.begin(from, jid, late, forgotten)
				}
			})
			return
		}
		if w.chance(w.perils.queue) {
			wait = w.about(10 * time.Second) // a machine that is short of everything
		}
		life := m.life
		w.after(wait, func() {
			if m.life == life { // else it had not begun when the process was killed
				m.begin(from, jid, late, forgotten)
			}
		})
	}
}

// begin is Salt's state.running, and then the highstate. A run of the same jid
// does not keep it from running (3006 to 3008; tried).
func (m *minion) begin(from *machine, jid string, late, forgotten bool) {
	w := m.world
	var lines []string
	for _, other := range slices.Sorted(maps.Keys(m.runs)) {
		if other != jid {
			lines = append(lines, `The function "state.highstate" is running as PID 4711 and was started at 12:00 with jid `+other)
		}
	}
	if lines != nil {
		w.log("%s: %s finds others running", m.id, jid)
		text, err := msgpack.Marshal(lines)
		if err != nil {
			panic(err)
		}
		m.end(from, event.Return{JID: jid, ID: m.id, Fun: highstateFun, Retcode: 1, Body: text})
		return
	}
	w.ran(m, jid, late, forgotten, m.runs[jid] != nil)
	r := &run{jid: jid}
	m.runs[jid] = r
	fate := w.rng.Float64()
	long := time.Minute
	if w.chance(w.perils.long) {
		long = 20 * time.Minute
	}
	w.after(min(w.about(long), 2*long), func() {
		if _, there := m.runs[jid]; !there {
			return // killed
		}
		m.ranAt = w.now
		delete(m.runs, jid) // whoever began it: the file has the jid's name
		switch p := w.perils; {
		case fate < p.kill:
			w.log("%s: %s is killed", m.id, jid)
			w.saw("job killed")
		case fate < p.kill+p.fail:
			w.log("%s: %s fails", m.id, jid)
			m.end(from, event.Return{JID: jid, ID: m.id, Fun: highstateFun, Retcode: 2})
		default:
			w.log("%s: %s succeeds", m.id, jid)
			if m.succeeded == "" {
				m.succeeded = jid
			}
			m.end(from, event.Return{JID: jid, ID: m.id, Fun: highstateFun, Success: true})
		}
	})
}

// end caches how a job ended and returns it to the master under which it began. In between
// it is neither in the proc folder nor in the cache (salt/minion.py,
// _prepare_return_pub).
func (m *minion) end(from *machine, r event.Return) {
	w := m.world
	births := m.births
	w.after(w.about(50*time.Millisecond), func() {
		if m.births != births || m.dead {
			return
		}
		if m.cache {
			m.ended[r.JID] = r
		}
		m.answer(from, r)
	})
}

// answer returns to the master that asked: to no other, and not if it is away
// (salt/minion.py, "Skipping req for other master").
func (m *minion) answer(to *machine, r event.Return) {
	if m.links[to] == nil {
		m.world.log("%s: return of %s is lost: %s is away", m.id, r.JID, to.id)
		return
	}
	to.event(func(b *bridge) {
		if b.inbox.subscribed([]byte(r.JID)) {
			b.inbox.Return(r)
		}
	})
}

// resolve answers a question. Each is a process of its own, so their order is
// anybody's guess.
func (m *minion) resolve(from *machine, jid string, q salt.Question) func() {
	w := m.world
	return func() {
		life := m.life
		w.after(w.about(500*time.Millisecond), func() {
			body, err := msgpack.Marshal(m.knows(q))
			if err != nil {
				panic(err)
			}
			w.after(w.about(500*time.Millisecond), func() {
				if m.life == life {
					m.answer(from, event.Return{JID: jid, ID: m.id, Fun: q.Fun, Body: salt.Brief(q.Fun, body)})
				}
			})
		})
	}
}

func (m *minion) knows(q salt.Question) any {
	switch q {
	case salt.WhatRuns():
		jobs := []map[string]any{}
		for _, jid := range slices.Sorted(maps.Keys(m.runs)) {
			jobs = append(jobs, map[string]any{"jid": jid, "fun": highstateFun, "pid": 4711})
		}
		return jobs
	case salt.MasterType():
		if m.failover {
			return "failover"
		}
		return "str"
	case salt.FindJob(q.Arg):
		if m.runs[q.Arg] != nil || m.queued[q.Arg] {
			return map[string]any{"jid": q.Arg, "pid": 4711}
		}
		return map[string]any{}
	}
	return m.cachedJob(q.Arg)
}

func (m *minion) cachedJob(job string) any {
	if r, ok := m.ended[job]; ok {
		return map[string]any{"retcode": r.Retcode, "success": r.Success, "return": msgpack.RawMessage(r.Body)}
	}
	if m.cache {
		return fmt.Sprintf("Local jobs cache directory /var/cache/salt/minion/minion_jobs/%s not found", job)
	}
	return "Local jobs cache directory not found; you may need to enable cache_jobs on this minion"
}
