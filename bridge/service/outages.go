package service

import (
	"context"
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

	since    time.Time // when it went away; zero: it is there
	recorded bool
}

// RecordOutages writes to the audit trail when event bus, store and master are lost and
// there again: what happened at night is read from the trail. The log has its own lines.
// bus returns why the event bus is not connected.
func (s *Service) RecordOutages(ctx context.Context, trail *slog.Logger, bus func() error) error {
	tick := time.NewTicker(outageEvery)
	defer tick.Stop()
	needs := s.dependencies(bus)
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, d := range needs {
				d.check(now, trail)
			}
		}
	}
}

func (s *Service) dependencies(bus func() error) []*dependency {
	return []*dependency{
		{lost: "store lost", back: "store reached again", fault: func() error {
			if err := s.beats.Lost(); err != nil {
				return err
			}
			return s.beats.NotReached(time.Now())
		}},
		{lost: "master does not serve", back: "master serves again", fault: s.health.Fault},
		{lost: "event bus lost", back: "event bus connected again", fault: bus},
	}
}

// check records a change that has lasted.
func (d *dependency) check(now time.Time, trail *slog.Logger) {
	err := d.fault()
	switch {
	case err == nil && d.recorded:
		trail.Info(d.back, "after", now.Sub(d.since).Round(time.Second).String())
		d.recorded = false
		fallthrough
	case err == nil:
		d.since = time.Time{}
	case d.since.IsZero():
		d.since = now
	case !d.recorded && now.Sub(d.since) >= outageAfter:
		d.recorded = true
		trail.Warn(d.lost, "err", err)
	}
}
