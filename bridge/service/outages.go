package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	// outageAfter is how long something must be away to be recorded: a connection that
	// comes back at once is none.
	outageAfter = 5 * time.Second
	// outageEvery is how often it is looked at: a read of memory.
	outageEvery = time.Second
)

// dependency is what a bridge needs: whether it is there, and how the trail puts it.
type dependency struct {
	lost, back string
	fault      func() error // nil: it is there

	since time.Time // when it went away; zero: it is there
	told  bool      // it is recorded
}

// recordOutages writes to the audit trail that the bridge has started, and when event bus,
// store and master are lost and there again: what happened at night is read from the
// trail. The log has its own lines.
func (s *Service) recordOutages(ctx context.Context, trail *slog.Logger) error {
	tick := time.NewTicker(outageEvery)
	defer tick.Stop()
	needs := s.dependencies()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, d := range needs {
				d.look(now, trail)
			}
		}
	}
}

func (s *Service) dependencies() []*dependency {
	needs := []*dependency{
		{lost: "store lost", back: "store reached again", fault: func() error {
			if err := s.beats.Lost(); err != nil {
				return err
			}
			if !s.beats.StoreReached(time.Now()) {
				return fmt.Errorf("no heartbeat was written for %v", s.opts.Config.Highstate.Lease)
			}
			return nil
		}},
		{lost: "master does not serve", back: "master serves again", fault: s.health.Fault},
	}
	if s.opts.Bus != nil {
		needs = append(needs, &dependency{lost: "event bus lost", back: "event bus connected again", fault: func() error {
			state := s.opts.Bus.State()
			if state.Since.IsZero() && state.LastErr == nil {
				return errors.New("not connected")
			}
			if state.Since.IsZero() {
				return state.LastErr
			}
			return nil
		}})
	}
	return needs
}

// look records a change that has lasted.
func (d *dependency) look(now time.Time, trail *slog.Logger) {
	err := d.fault()
	switch {
	case err == nil && d.told:
		trail.Info(d.back, "after", now.Sub(d.since).Round(time.Second).String())
		d.told = false
		fallthrough
	case err == nil:
		d.since = time.Time{}
	case d.since.IsZero():
		d.since = now
	case !d.told && now.Sub(d.since) >= outageAfter:
		d.told = true
		trail.Warn(d.lost, "err", err)
	}
}
