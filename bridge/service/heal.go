package service

import (
	"context"
	"fmt"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/health"
	"phoenix/bridge/retry"
)

// Heal has the instance of a master that does not serve replaced.
type Heal struct {
	After     time.Duration // without an answer of one that served before; 0: never
	Heals     fleet.Heals
	Unhealthy func(ctx context.Context) error // says so of the own instance, to AutoScaling
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

// runHeal says that this instance is unhealthy, once, if its master, which served
// before and is not drained, neither serves nor answers for Heal.After, another master
// serves, and no other was replaced lately.
func (s *Service) runHeal(ctx context.Context) error {
	cure := &health.Cure{After: max(s.opts.Heal.After, s.opts.Config.Highstate.Lease), Apart: health.Apart}
	var read time.Time
	for retry.Sleep(ctx, healEvery) {
		now := time.Now()
		cure.Health(s.keepReason() != "", s.health.Alive(), now)
		sick := cure.Sick(now)
		if sick || read.IsZero() || now.Sub(read) >= recordEvery {
			heal, err := s.opts.Heal.Heals.LastHeal(ctx)
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
		heal, mine, err := s.opts.Heal.Heals.ClaimHeal(ctx, s.opts.Config.InstanceID, over)
		switch {
		case err != nil: // in doubt: the record is read again
		case !mine:
			cure.Saw(heal, time.Now())
		default:
			cure.Done()
			s.setUnhealthy(ctx)
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
func (s *Service) setUnhealthy(ctx context.Context) {
	id, begun := s.opts.Config.InstanceID, time.Now()
	for try := 1; ; try++ {
		spared := s.keepReason()
		if spared == "" && s.health.Alive().After(begun) {
			spared = "the master answers"
		}
		why := s.health.Fault()
		if spared != "" || why == nil {
			s.opts.Log.Info("master's instance not replaced", "reason", spared)
			return
		}
		err := s.opts.Heal.Unhealthy(ctx)
		if err == nil {
			s.audit.Healed(id, fmt.Sprintf("not proven to serve for %v: %v", s.opts.Heal.After, why), nil)
			return
		}
		if try == unhealthyTries || ctx.Err() != nil {
			s.audit.Healed(id, fmt.Sprintf("not proven to serve for %v: %v", s.opts.Heal.After, why), err)
			return
		}
		if !retry.Sleep(ctx, healEvery) {
			return
		}
	}
}
