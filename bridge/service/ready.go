package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"phoenix/bridge/health"
	"phoenix/bridge/retry"
)

// Check returns why minions may not be sent to a master yet. On AWS one looks for what
// a first highstate needs, since one without states fails for nothing.
type Check func(ctx context.Context) error

const (
	// readyEvery: how often it is decided anew whether a master is ready; that reads
	// memory only. A gate that was not passed is given longer.
	readyEvery = 200 * time.Millisecond
	// readyPollEvery: so often where it is.
	readyPollEvery = time.Second
	// startGrace: what is usual at a start is not worth a warning.
	startGrace = 5 * time.Second
	// notReadyLogEvery: another reason is logged no sooner than that.
	notReadyLogEvery = 10 * time.Second
	// keepFor bounds for how long the row may say ready of the bridge before this
	// one. It is longer than a comparison of 20,000 keys and a gate of two salt-runs
	// take on a machine that is busy.
	keepReadyFor = 2 * time.Minute
)

// gate is what has become of the checks. They are passed once in a bridge's life: the
// master goes on to serve what it has fetched.
type gate struct {
	mu     sync.Mutex
	passed bool
	fault  error
}

func (g *gate) set(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.passed, g.fault = err == nil, err
}

// closed says why the gate is not passed.
func (g *gate) closed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.passed && g.fault == nil {
		return errors.New("what a first highstate needs is being looked for")
	}
	return g.fault
}

// passGate makes the checks until all of them are passed.
func (s *Service) passGate(ctx context.Context) error {
	wait := readyEvery
	for {
		if len(s.parts.Checks) == 0 || s.notServing() == nil {
			err := s.check(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if s.gate.set(err); err == nil {
				return nil
			}
			wait = retry.Backoff{First: readyEvery, Most: retryMost}.Next(wait)
		}
		if !retry.Sleep(ctx, wait) {
			return nil
		}
	}
}

// check returns why the first check that is not passed is not.
func (s *Service) check(ctx context.Context) error {
	for _, check := range s.parts.Checks {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// runReady says in the row whether minions may be sent here, for as long as the
// bridge runs.
func (s *Service) runReady(ctx context.Context) error {
	var says, known bool // what the row says; whether this bridge has said it
	var logged string
	var loggedAt time.Time
	for {
		err := s.notReady()
		ready := err == nil
		news := ready != says
		if news || !ready && !known && !s.keepsReady() {
			s.beats.SetReady(ready)
			says, known = ready, true
		}
		switch now := time.Now(); {
		case ready && news:
			s.parts.Log.Info("ready", "after", now.Sub(s.started).Round(time.Millisecond))
			logged = ""
		case ready, ctx.Err() != nil:
		case news, err.Error() != logged && now.Sub(s.started) > startGrace && now.Sub(loggedAt) > notReadyLogEvery:
			s.parts.Log.Warn("not ready", "err", err)
			logged, loggedAt = err.Error(), now
		}
		wait := readyEvery
		if ready {
			wait = readyPollEvery
		}
		if !retry.Sleep(ctx, wait) {
			return nil
		}
	}
}

// keepsReady reports whether the row may go on to say ready, if it does, until this
// bridge knows better.
func (s *Service) keepsReady() bool {
	up := time.Since(s.started)
	if s.health.Fault() != nil {
		return up < health.Lost
	}
	return up < keepReadyFor
}

// notReady says what is missing.
func (s *Service) notReady() error {
	if err := s.beats.Fault(); errors.Is(err, ErrRetired) {
		return err
	}
	if err := s.notServing(); err != nil {
		return err
	}
	return s.gate.closed()
}

// notServing says what is missing, the gate apart.
func (s *Service) notServing() error {
	if err := s.health.Fault(); err != nil {
		return err
	}
	switch st := s.engine.Status(); {
	case !st.KeysPreloaded:
		return fmt.Errorf("known keys are not in place yet: %s", st.Fault)
	case !st.Resynced:
		return fmt.Errorf("keys and fleet are not compared yet: %s", st.Fault)
	}
	return s.readKey()
}

// readKey reads which key the master has, for the next beat.
func (s *Service) readKey() error {
	digest, err := s.parts.MasterKey()
	if err != nil {
		if s.beats.Key() != "" {
			return nil // the master goes on with the one that it has read
		}
		return fmt.Errorf("read master key: %w", err)
	}
	s.beats.SetKey(digest)
	return nil
}
