package service

import (
	"context"
	"fmt"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/bridge/health"
)

// Heal has the instance of a master that does not serve replaced.
type Heal struct {
	After     time.Duration // without a proof that it serves; 0: never
	Heals     fleet.Heals
	Unhealthy func(ctx context.Context) error // says so of the own instance, to AutoScaling
}

const (
	// healEvery: how often it is decided whether a master is to be replaced.
	healEvery = 5 * time.Second
	// recordEvery: how often the fleet's record of heals is read while all is well,
	// so that its age is known when it matters. One read of one item.
	recordEvery = 5 * time.Minute
	// unhealthyTries bounds how often AutoScaling is told, every healEvery: one that
	// denies it does so each time.
	unhealthyTries = 12
)

// tendHeal says that this instance is unhealthy, once, if its master does not serve
// for Heal.After, another master does, and no other was replaced lately.
func (s *Service) tendHeal(ctx context.Context) error {
	cure := &health.Cure{After: max(s.opts.Heal.After, s.opts.Config.Highstate.Lease), Apart: health.Apart}
	var read time.Time
	for sleep(ctx, healEvery) {
		now := time.Now()
		cure.Health(s.health.Fault() == nil, now)
		sick := cure.Sick(now)
		if sick || read.IsZero() || now.Sub(read) >= recordEvery {
			heal, err := s.opts.Heal.Heals.LastHeal(ctx)
			if err != nil {
				continue // the heartbeat tells of a store that does not answer
			}
			read = time.Now()
			cure.Saw(heal, read)
		}
		if !sick {
			continue
		}
		another, err := s.beats.Another(ctx)
		if err != nil {
			continue
		}
		over, due := cure.Due(another, time.Now())
		if !due || s.health.Fault() == nil {
			continue
		}
		heal, mine, err := s.opts.Heal.Heals.ClaimHeal(ctx, s.opts.Config.InstanceID, over)
		switch {
		case err != nil: // in doubt: the record is read again
		case !mine:
			cure.Saw(heal, time.Now())
		default:
			cure.Done()
			s.sayUnhealthy(ctx)
		}
	}
	return nil
}

// sayUnhealthy has the own instance replaced. The right to do so is used up,
// whatever comes of it: a master that begins to serve at the last moment stays.
func (s *Service) sayUnhealthy(ctx context.Context) {
	id := s.opts.Config.InstanceID
	for try := 1; ; try++ {
		why := s.health.Fault()
		if why == nil {
			s.opts.Log.Info("the master serves again: its instance stays")
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
		if !sleep(ctx, healEvery) {
			return
		}
	}
}
