package service

import (
	"context"
	"fmt"
)

// checkForTwin reads this master's row before it is written, while there is reason
// to think that another bridge writes it too.
func (b *Heartbeats) checkForTwin(ctx context.Context) {
	b.mu.Lock()
	suspects := b.twin.Suspects()
	own := b.beat
	b.mu.Unlock()
	if !suspects {
		return
	}
	masters, err := b.ReadMasters(ctx)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range masters {
		if m.InstanceID != own.InstanceID {
			continue
		}
		was := b.twin.Found()
		b.twin.Observe(m, own.Incarnation)
		if is := b.twin.Found(); is != was && is {
			b.log.Error(ErrTwin.Error(), "instance", own.InstanceID, "its_address", m.IPAddr, "its_incarnation",
				m.Incarnation)
		} else if is != was {
			b.log.Info("other bridge with this instance_id is gone", "instance", own.InstanceID)
		}
	}
}

// Twin reports whether another bridge runs under the same instance_id.
func (b *Heartbeats) Twin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.twin.Found() {
		return nil
	}
	return fmt.Errorf("%s: %w", b.beat.InstanceID, ErrTwin)
}

// cameSecond reports whether the other bridge was there when this one began.
func (b *Heartbeats) cameSecond() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.twin.CameSecond()
}
