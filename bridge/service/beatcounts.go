package service

import "time"

// SetMinions says in the next beat of how many ids this master has accepted a key: agents
// spread their restarts by it.
func (b *Heartbeats) SetMinions(n int) {
	b.mu.Lock()
	b.beat.Minions = n
	b.mu.Unlock()
}

// SetQueued says in the next beat how many first highstates wait for a slot of this
// master: their launching hooks are extended meanwhile.
func (b *Heartbeats) SetQueued(n int) {
	b.mu.Lock()
	b.beat.Queued = n
	b.mu.Unlock()
}

// countEvery: how often the connections of minions are counted. 10,000 of them take
// some 20 ms to read. While the master drains they are counted at each beat.
const countEvery = 30 * time.Second

// CountConnected makes the beats say how many minions are connected to this master, as
// connected counts them: while it drains, those that can leave. It is to be called before
// the first beat.
func (b *Heartbeats) CountConnected(connected func(leaving bool) (int, error)) {
	b.connected = connected
}

// countConnected counts them if it is time. An error means that nobody listens: the
// master is down.
func (b *Heartbeats) countConnected() {
	now, draining := b.now(), b.Row().Draining
	if b.connected == nil || !draining && !b.counted.IsZero() && now.Sub(b.counted) < countEvery {
		return
	}
	b.counted = now
	n, err := b.connected(draining)
	if err != nil {
		n = 0
	}
	b.mu.Lock()
	b.beat.Connected = n
	b.mu.Unlock()
}
