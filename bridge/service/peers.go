package service

import (
	"context"
	"slices"

	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
)

// ReadMasters reads the masters, and records their heartbeats.
func (b *Heartbeats) ReadMasters(ctx context.Context) ([]fleet.Master, error) {
	masters, err := b.store.Masters(ctx)
	if _, err = fleet.WithoutBadRows(err); err == nil {
		b.mu.Lock()
		b.detector.Observe(masters, b.now())
		b.otherReady = slices.ContainsFunc(masters, func(m fleet.Master) bool {
			return b.staysReady(m) && b.detector.Of(m.InstanceID, b.lease) == decide.Beating
		})
		b.mu.Unlock()
	}
	return masters, err
}

// OtherServes reads the masters, and reports whether one of them serves besides this one:
// it is ready, stays, and was seen to beat for a lease.
func (b *Heartbeats) OtherServes(ctx context.Context) (bool, error) {
	masters, err := b.ReadMasters(ctx)
	if err != nil {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range masters {
		if b.staysReady(m) && b.detector.Steady(m.InstanceID, b.lease) {
			return true, nil
		}
	}
	return false, nil
}

// staysReady reports whether a row is another master's, and says that minions may go
// there. The row of a bridge that died goes on to say so.
func (b *Heartbeats) staysReady(m fleet.Master) bool {
	return m.InstanceID != b.beat.InstanceID && m.Status == fleet.Launch && m.Ready && !m.Draining
}
