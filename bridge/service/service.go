package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/fleet"
	"phoenix/bridge/health"
	"phoenix/bridge/retry"
)

// Defaults of what an operator cannot say.
const (
	// ResyncEvery bounds for how long a lost event can matter.
	ResyncEvery = 2 * time.Minute
	// resyncJitter keeps masters that were started together apart.
	resyncJitter = 0.2
)

// Prober asks the master for a sign of life.
type Prober interface {
	// Prove makes a request that a worker of the master must answer.
	Prove(ctx context.Context) error
}

// EventBus is what the service asks of the connection to the master's event bus.
type EventBus interface {
	Connected() bool
}

// Parts are what a Service is made of. All of them are needed, but there may be no
// Checks.
type Parts struct {
	Store  fleet.Store
	Master Master
	Keys   KeyStore
	Prober Prober
	Bus    EventBus
	Inbox  *Inbox // where hints arrive

	Checks    []Check                // what must be so before minions are sent here
	MasterKey func() (string, error) // returns the digest of the master's own public key
	// Connections counts the minions that are connected to the master; leaving: those that
	// leave with it, which the minion of its own host does not.
	Connections func(leaving bool) (int, error)

	Counters  *Counters
	Log       *slog.Logger
	Decisions *slog.Logger // where decisions are logged
}

// validate returns which parts are missing.
func (p Parts) validate() error {
	var faults []error
	for _, part := range []struct {
		name    string
		missing bool
	}{
		{"store", p.Store == nil}, {"master", p.Master == nil}, {"keys", p.Keys == nil},
		{"prober", p.Prober == nil}, {"bus", p.Bus == nil}, {"inbox", p.Inbox == nil},
		{"master key", p.MasterKey == nil}, {"connections", p.Connections == nil},
		{"counters", p.Counters == nil}, {"log", p.Log == nil}, {"decisions", p.Decisions == nil},
	} {
		if part.missing {
			faults = append(faults, fmt.Errorf("make service: it has no %s", part.name))
		}
	}
	return errors.Join(faults...)
}

// Service is the loops that each master has. Those that depend on where it runs
// stand beside it: Healer and InstanceWatch.
type Service struct {
	parts   Parts
	cfg     Config
	engine  *Engine
	beats   *Heartbeats
	health  *health.Watch
	gate    gate
	audit   *Audit
	started time.Time
}

// New puts the parts together. beat needs no identity: it is cfg's.
func New(cfg Config, beat fleet.Beat, p Parts) (*Service, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	cfg.ResyncEvery = retry.Spread(cfg.ResyncEvery, resyncJitter)
	s := &Service{parts: p, cfg: cfg, started: time.Now(), audit: NewAudit(p.Decisions)}
	s.audit.counters = p.Counters
	beat.InstanceID, beat.Incarnation = cfg.InstanceID, cfg.Incarnation
	// A bridge's restart moves no minion: what the row says of ready stays, until
	// this bridge knows.
	beat.KeepReady = true
	s.beats = NewHeartbeats(p.Store, beat, cfg.Highstate.Lease, time.Now, p.Log)
	s.beats.CountConnected(p.Connections)
	s.health = health.NewWatch(p.Prober.Prove, p.Bus.Connected)
	s.engine = NewEngine(cfg, p.Store, p.Master, p.Keys, s.beats, p.Inbox, s.audit, time.Now, p.Log)
	return s, nil
}

// Run runs the loops until ctx ends or one of them must give up.
func (s *Service) Run(ctx context.Context) error {
	_ = s.readKey() // so that the first beat has it; runReady reports why it has not
	g, ctx := errgroup.WithContext(ctx)
	for _, loop := range []func(context.Context) error{s.beats.Run, s.health.Run, s.engine.Run,
		s.passGate, s.runReady} {
		g.Go(func() error { return loop(ctx) })
	}
	return g.Wait()
}
