package service

import (
	"context"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"phoenix/bridge/event"
	"phoenix/bridge/salt"
)

// A bridge of the simulator is also the master and the key store that its engine
// sees.
var (
	_ Master   = (*bridge)(nil)
	_ KeyStore = (*bridge)(nil)
)

const highstateFun = "state.highstate"

func (b *bridge) Publish(_ context.Context, j salt.Job) ([]string, error) {
	as := b.machine.jid(j.JID)
	hit, err := b.send(as, j.Targets, "publish",
		func(m *minion) { m.receive(b.machine, as, m.highstate(b.machine, as)) },
		func(id string) { b.machine.world.publishes(b, id, j.JID, as) })
	if err = b.otherJID(j.JID, as, hit, err); err != nil {
		for _, id := range hit {
			b.machine.world.minion(id).renamed(as, err)
		}
	}
	return hit, err
}

func (b *bridge) Ping(_ context.Context, jid string, ids []string) ([]string, error) {
	as := b.machine.jid(jid)
	hit, err := b.send(as, ids, "ping", func(m *minion) {
		m.receive(b.machine, as, func() { m.answer(b.machine, event.Return{JID: as, ID: m.id, Fun: "test.ping"}) })
	}, nil)
	return hit, b.otherJID(jid, as, hit, err)
}

func (b *bridge) Ask(_ context.Context, jid string, q salt.Question, ids []string) error {
	as := b.machine.jid(jid)
	hit, err := b.send(as, ids, "ask "+q.Fun+" "+q.Arg, func(m *minion) {
		m.receive(b.machine, as, m.resolve(b.machine, as, q))
	}, nil)
	return b.otherJID(jid, as, hit, err)
}

// errRefused is what a bridge gets from the port of a master that does not run.
var errRefused = &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}

// send hands a job to the minions that are connected here.
func (b *bridge) send(jid string, ids []string, what string, receive func(*minion),
	note func(id string)) ([]string, error) {
	w, m := b.machine.world, b.machine
	var hit []string
	if w.traced {
		what = fmt.Sprintf("%s %s %v", what, jid, ids)
	}
	err := b.call(what, false, salt.ErrUnreachable, func() {
		if !m.up {
			return
		}
		w.log("%s: %s", b.incarnation, what)
		for _, id := range ids {
			if m.keys[salt.Accepted][id] == nil {
				continue
			}
			hit = append(hit, id)
			if note != nil {
				note(id)
			}
			minion := w.minion(id)
			link := minion.links[m]
			if link == nil || w.peril(w.perils.lose) {
				w.saw("job reached nobody")
				continue
			}
			w.after(w.about(50*time.Millisecond), func() {
				if minion.links[m] == link {
					receive(minion)
				}
			})
		}
	})
	if err == nil && !m.up {
		err = fmt.Errorf("%s: %w: %w", what, salt.ErrUnreachable, errRefused)
	}
	return hit, err
}

func (b *bridge) Accept(_ context.Context, ids []string) error {
	m := b.machine
	return b.call(fmt.Sprintf("accept %v", ids), false, salt.ErrUnreachable, func() {
		for _, id := range ids {
			if key := m.keys[salt.Pending][id]; key != nil && m.up {
				m.world.log("%s: accepts %s", b.incarnation, id)
				m.world.accepts(b, id, key)
				delete(m.keys[salt.Pending], id)
				m.keys[salt.Accepted][id] = key
				m.event(func(b *bridge) { b.inbox.Enqueue(id, false) })
			}
		}
	})
}

func (b *bridge) Delete(_ context.Context, keys map[salt.State][]string) error {
	m := b.machine
	err := b.call(fmt.Sprintf("delete %v", keys), false, salt.ErrUnreachable, func() {
		for state, ids := range keys {
			for _, id := range ids {
				key := m.keys[state][id]
				if key == nil || !m.up {
					continue
				}
				m.world.log("%s: deletes the %s key of %s", b.incarnation, state, id)
				if delete(m.keys[state], id); state == salt.Accepted {
					m.world.deletes(b, id, key)
					delete(m.world.minion(id).links, m)
				}
			}
		}
	})
	if err == nil && !m.up {
		return fmt.Errorf("delete: %w", salt.ErrUnreachable)
	}
	return err
}

func (b *bridge) List() (salt.Listing, error) {
	of := func(state salt.State) (ids []string) {
		for id := range b.machine.keys[state] {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		return ids
	}
	return salt.Listing{Accepted: of(salt.Accepted), Pending: of(salt.Pending), Rejected: of(salt.Rejected),
		Denied: of(salt.Denied)}, nil
}

func (b *bridge) Read(id string, state salt.State) ([]byte, error) {
	if key := b.machine.keys[state][id]; key != nil {
		return key, nil
	}
	return nil, salt.ErrNoKey
}

func (b *bridge) Version(string, salt.State) (salt.FileVersion, error) {
	return salt.FileVersion{}, nil
}

func (b *bridge) UnlinkPending(id string, _ []byte) error {
	delete(b.machine.keys[salt.Pending], id)
	return nil
}

func (b *bridge) WriteAccepted(keys map[string][]byte) (written []string, _ map[string]error, _ error) {
	for id, key := range keys {
		if b.machine.keys[salt.Accepted][id] == nil {
			b.machine.keys[salt.Accepted][id] = key
			b.machine.world.accepts(b, id, key)
			delete(b.machine.keys[salt.Pending], id)
			written = append(written, id)
		}
	}
	return written, nil, nil
}
