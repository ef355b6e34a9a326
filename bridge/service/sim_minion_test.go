package service

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
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

	life    int             // of its process
	seen    map[string]bool // the jid_queue, lost with the process
	running *run            // its highstate
	ended   map[string]event.Return

	first     map[string]int // jid -> life in which it first came
	succeeded string         // jid of the first highstate that did
	excused   bool           // something happened that docs/guarantees.md excepts
}

// link is one connection to a master.
type link struct{}

// run is one highstate that a minion runs.
type run struct{ jid string }

func newMinion(w *world, id string, n int) *minion {
	m := &minion{world: w, id: id, key: publicKey(n), failover: w.chance(0.5), cache: !w.chance(w.perils.noCache),
		links: map[*machine]*link{}, seen: map[string]bool{}, ended: map[string]event.Return{}, first: map[string]int{},
		current: w.rng.IntN(len(w.machines))}
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

// knock connects to the masters that it should be connected to, or asks to be
// let in, again and again.
func (m *minion) knock() {
	w := m.world
	w.after(w.between(8*time.Second, 12*time.Second), m.knock)
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
	switch {
	case !to.up || m.links[to] != nil:
	case to.keys[salt.Accepted][m.id] == nil:
		to.keys[salt.Pending][m.id] = m.key
		to.event(func(b *bridge) { b.inbox.Look(m.id, false) })
	default:
		w.log("%s: connected to %s", m.id, to.id)
		m.links[to] = &link{}
		if w.chance(w.perils.silent) {
			w.saw("connected without a word") // Salt 3006, after a reconnect
			return
		}
		to.event(func(b *bridge) { b.inbox.Look(m.id, true) })
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
	m.links, m.seen = map[*machine]*link{}, map[string]bool{}
	w.saw("minion restarted")
	if m.running != nil && w.chance(0.5) {
		w.log("%s: its job %s is killed", m.id, m.running.jid)
		m.running = nil
	}
	w.log("%s: restarts", m.id)
}

// byHand runs a highstate that is not ours: salt-call, a schedule.
func (m *minion) byHand() {
	if m.running != nil {
		return
	}
	m.world.log("%s: runs a highstate by hand", m.id)
	r := &run{jid: "by hand"}
	m.running = r
	m.world.after(m.world.about(time.Minute), func() {
		if m.running == r {
			m.running = nil
		}
	})
}

// receive takes a job from a master, unless it has seen the jid before.
func (m *minion) receive(from *machine, jid string, do func()) {
	if m.seen[jid] {
		m.world.log("%s: drops %s from %s: seen before", m.id, jid, from.id)
		m.world.saw("jid dropped by the minion")
		if m.world.lately(m.id, jid) {
			m.world.saw("late publish dropped by the minion")
		}
		return
	}
	m.seen[jid] = true
	if do != nil {
		do()
	}
}

// highstate runs one, which takes its time to begin, to run and to return.
func (m *minion) highstate(from *machine, jid string) func() {
	w := m.world
	late := w.lately(m.id, jid)
	return func() {
		life := m.life
		known, came := m.first[jid]
		if !came {
			m.first[jid] = life
		}
		w.after(w.about(time.Second), func() {
			if m.life != life {
				return // it had not begun when the process was killed
			}
			if m.running != nil {
				w.log("%s: %s finds %s running", m.id, jid, m.running.jid)
				text, err := msgpack.Marshal([]string{`The function "state.highstate" is running as PID 4711 and was started at 12:00 with jid ` + m.running.jid})
				if err != nil {
					panic(err)
				}
				m.end(from, event.Return{JID: jid, ID: m.id, Fun: highstate, Retcode: 1, Body: text})
				return
			}
			w.ran(m, jid, late, came && known != life)
			r := &run{jid: jid}
			m.running = r
			fate := w.rng.Float64()
			w.after(w.about(time.Minute), func() {
				if m.running != r {
					return // killed
				}
				m.running = nil
				switch p := w.perils; {
				case fate < p.kill:
					w.log("%s: %s is killed", m.id, jid)
					w.saw("job killed")
				case fate < p.kill+p.fail:
					w.log("%s: %s fails", m.id, jid)
					m.end(from, event.Return{JID: jid, ID: m.id, Fun: highstate, Retcode: 2})
				default:
					w.log("%s: %s succeeds", m.id, jid)
					if m.succeeded == "" {
						m.succeeded = jid
					}
					m.end(from, event.Return{JID: jid, ID: m.id, Fun: highstate, Success: true})
				}
			})
		})
	}
}

// end keeps how a job ended and tells the master under which it began.
func (m *minion) end(from *machine, r event.Return) {
	if m.cache {
		m.ended[r.JID] = r
	}
	m.answer(from, r)
}

// answer returns to the master that asked: to no other, and not if it is away
// (salt/minion.py, "Skipping req for other master").
func (m *minion) answer(to *machine, r event.Return) {
	if m.links[to] == nil {
		m.world.log("%s: return of %s is lost: %s is away", m.id, r.JID, to.id)
		return
	}
	to.event(func(b *bridge) {
		if b.inbox.hears([]byte(r.JID)) {
			b.inbox.Return(r)
		}
	})
}

// resolve answers one of the questions of salt.Master.AskAfter. Each is a process
// of its own, so their order is anybody's guess.
func (m *minion) resolve(from *machine, jid string, question int, job string) func() {
	w := m.world
	return func() {
		life := m.life
		w.after(w.about(500*time.Millisecond), func() {
			fun, value := "config.get", any("str")
			switch {
			case question == 0:
				fun, value = "saltutil.find_job", map[string]any{}
				if m.running != nil && m.running.jid == job {
					value = map[string]any{"jid": job}
				}
			case question == 2:
				fun, value = "saltutil.find_cached_job", m.cachedJob(job)
			case m.failover:
				value = "failover"
			}
			body, err := msgpack.Marshal(value)
			if err != nil {
				panic(err)
			}
			w.after(w.about(500*time.Millisecond), func() {
				if m.life == life {
					m.answer(from, event.Return{JID: jid, ID: m.id, Fun: fun, Body: body})
				}
			})
		})
	}
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
