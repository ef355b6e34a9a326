package service

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"phoenix/bridge/metrics"
)

const (
	// aliveFor: an engine with nothing to do steps once a comparison at least, and one
	// that waits for store or master once in retryMost. What is longer than that and
	// a long step together is a loop that hangs.
	aliveFor = 5 * time.Minute
	// beatsFor: a beat, of two calls of the store at most, takes 40 s where that does
	// not answer.
	beatsFor = 2 * time.Minute
)

// Alive says which loop hangs, if one does: then a restart helps. That the store or
// the master does not answer is no reason for one.
func (s *Service) Alive() error {
	now := time.Now()
	since := func(at time.Time) time.Duration {
		if at.IsZero() {
			at = s.started
		}
		return now.Sub(at)
	}
	ticked, _ := s.beats.last()
	var faults []error
	if d := since(s.engine.Status().At); d > aliveFor {
		faults = append(faults, fmt.Errorf("the engine has made no step for %v", d.Round(time.Second)))
	}
	if d := since(ticked); d > beatsFor {
		faults = append(faults, fmt.Errorf("the heartbeat loop has not run for %v", d.Round(time.Second)))
	}
	return errors.Join(faults...)
}

// Ready says why no minions may be sent here, if so.
func (s *Service) Ready() error {
	if err := s.beats.Lost(); err != nil {
		return fmt.Errorf("the store is lost: %w", err)
	}
	if err := s.beats.NotReached(time.Now()); err != nil {
		return err
	}
	if err := s.notReady(); err != nil {
		return err
	}
	if row := s.beats.Row(); !row.Ready || row.Incarnation != s.cfg.Incarnation {
		return errors.New("not ready yet")
	}
	return nil
}

// Registry returns what a scrape gathers: the report of the bridge, the histograms,
// and what client_golang collects of the process and of Go.
func Registry(report func() Report, durations *metrics.Durations) *prometheus.Registry {
	all := prometheus.NewRegistry()
	all.MustRegister(NewCollector(report), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if durations != nil {
		all.MustRegister(durations)
	}
	return all
}
