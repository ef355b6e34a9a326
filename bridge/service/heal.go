package service

import (
	"context"
	"fmt"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/health"
	"phoenix/bridge/retry"
)

// Healer has the instance of a master that does not serve replaced.
type Healer struct {
	service   *Service
	after     time.Duration
	record    fleet.Heals
	unhealthy func(ctx context.Context) error
}

// NewHealer returns a Healer of the master of s. It replaces one that served before and
// has not answered for that long, as record allows. unhealthy reports the own instance
// to AutoScaling as unhealthy.
func NewHealer(s *Service, after time.Duration, record fleet.Heals, unhealthy func(ctx context.Context) error) *Healer {
	return &Healer{service: s, after: after, record: record, unhealthy: unhealthy}
}

const (
	// healEvery: how often it is decided whether a master is to be replaced.
	healEvery = 5 * time.Second
	// recordEvery: how often the fleet's record of heals is read while all is well,
	// so that its age is known when it matters. One read of one item.
	recordEvery = 5 * time.Minute
	// unhealthyTries bounds the reports to AutoScaling, one every healEvery: one that
	// denies it does so each time.
	unhealthyTries = 12
)

// Run reports this instance as unhealthy, once, if its master, which served before and
// is not drained, neither serves nor answers for that long, another master serves, and
// no other was replaced lately.
func (h *Healer) Run(ctx context.Context) error {
	s := h.service
	cure := &health.Cure{After: max(h.after, s.cfg.Highstate.Lease), Apart: health.Apart}
	var read time.Time
	for retry.Sleep(ctx, healEvery) {
		now := time.Now()
		cure.Health(s.keepReason() != "", s.health.Alive(), now)
		sick := cure.Sick(now)
		if sick || read.IsZero() || now.Sub(read) >= recordEvery {
			heal, err := h.record.LastHeal(ctx)
			if err != nil {
				continue // the heartbeat reports a store that does not answer
			}
			read = time.Now()
			cure.Saw(heal, read)
		}
		if !sick {
			continue
		}
		another, err := s.beats.OtherServes(ctx)
		if err != nil {
			continue
		}
		now = time.Now()
		cure.Health(s.keepReason() != "", s.health.Alive(), now)
		over, due := cure.Due(another, now)
		if !due {
			continue
		}
		heal, mine, err := h.record.ClaimHeal(ctx, s.cfg.InstanceID, over)
		switch {
		case err != nil: // in doubt: the record is read again
		case !mine:
			cure.Saw(heal, time.Now())
		default:
			cure.Done()
			h.setUnhealthy(ctx)
		}
	}
	return nil
}

// keepReason says why this master's instance is not to be replaced; empty: nothing keeps
// it.
func (s *Service) keepReason() string {
	switch {
	case s.health.Fault() == nil:
		return "the master serves"
	case s.beats.Row().Draining:
		return "the master is drained: it may be worked on"
	case !s.health.Served(): // the launching hook's time bounds how long it may take
		return "the master has not served since this bridge began"
	}
	return ""
}

// setUnhealthy has the own instance replaced. The right to do so is used up,
// whatever comes of it: a master that begins to serve at the last moment stays.
func (h *Healer) setUnhealthy(ctx context.Context) {
	s := h.service
	id, begun := s.cfg.InstanceID, time.Now()
	for try := 1; ; try++ {
		spared := s.keepReason()
		if spared == "" && s.health.Alive().After(begun) {
			spared = "the master answers"
		}
		why := s.health.Fault()
		if spared != "" || why == nil {
			s.parts.Log.Info("master's instance not replaced", "reason", spared)
			return
		}
		err := h.unhealthy(ctx)
		if err == nil {
			s.audit.Healed(id, fmt.Sprintf("not proven to serve for %v: %v", h.after, why), nil)
			return
		}
		if try == unhealthyTries || ctx.Err() != nil {
			s.audit.Healed(id, fmt.Sprintf("not proven to serve for %v: %v", h.after, why), err)
			return
		}
		if !retry.Sleep(ctx, healEvery) {
			return
		}
	}
}
