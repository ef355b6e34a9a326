package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/audit"
	"phoenix/bridge/autoscaling"
	"phoenix/bridge/bus"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/health"
	"phoenix/bridge/relay"
	"phoenix/bridge/retry"
)

// Defaults of what an operator cannot say.
const (
	// ResyncEvery bounds for how long a lost event can matter.
	ResyncEvery = 2 * time.Minute
	// resyncJitter keeps masters that were started together apart.
	resyncJitter = 0.2
)

// Options are the parts of a bridge. Those that are nil are left out.
type Options struct {
	Config Config
	Store  fleet.Store
	Master Master
	Keys   KeyStore
	Inbox  *Inbox // hints come in there
	Bus    *bus.Bus
	Queue  *autoscaling.Queue
	Beat   fleet.Beat
	Ready  Ready
	// Prove makes a request that a worker of the master must answer, again and
	// again; nil: that is not asked.
	Prove func(ctx context.Context) error
	Heal  Heal
	// Metadata is the instance's, which says when it is about to end; nil off AWS.
	Metadata health.Metadata
	// Connected counts the minions that are connected to the master; nil: nobody does.
	Connected func() (int, error)
	// AdviceFile remembers which recommendation of EC2 was followed; empty: nothing
	// does, over a restart.
	AdviceFile string
	Log        *slog.Logger
	Trail      *audit.Trail // decisions go there, and to Log

	Version string // of phoenix, for people

	Counters *Counters // nil: its own; those of Store's failures, else: see CountFailures

	Monitor net.Listener // of metrics and health; nil: none
	Pages   http.Handler // of the page for browsers, beside them; nil: none

	Runs bus.Handler // hears of state runs; nil: nobody

	Relay *relay.Relay // of jobs between masters; nil: none. It needs Bus

	// Serve answers runners and admins until ctx ends.
	Serve func(ctx context.Context, s *Service) error
}

// Service is a bridge: the loops of one master.
type Service struct {
	opts    Options
	engine  *Engine
	beats   *Heartbeats
	health  *health.Watch
	gate    gate
	audit   *Audit
	inbox   *Inbox
	started time.Time
}

// New puts the parts together.
func New(opts Options) *Service {
	opts.Config.ResyncEvery = retry.Spread(opts.Config.ResyncEvery, resyncJitter)
	if opts.Inbox == nil {
		opts.Inbox = NewInbox()
	}
	s := &Service{opts: opts, inbox: opts.Inbox, started: time.Now(), audit: NewAudit(DecisionLog(opts.Log, opts.Trail, opts.Config.InstanceID))}
	if opts.Counters != nil {
		s.audit.counters = opts.Counters
	}
	// A bridge's restart moves no minion: what the row says of ready stays, until
	// this bridge knows.
	opts.Beat.KeepReady = true
	s.beats = NewHeartbeats(opts.Store, opts.Beat, opts.Config.Highstate.Lease, time.Now, opts.Log)
	s.beats.CountConnected(opts.Connected)
	s.health = health.NewWatch(opts.Prove, s.busConnected())
	s.engine = NewEngine(opts.Config, opts.Store, opts.Master, opts.Keys, s.beats, s.inbox,
		s.audit, time.Now, opts.Log)
	return s
}

// DecisionLog is a log of decisions: they go to the trail, too, if there is one.
func DecisionLog(log *slog.Logger, trail *audit.Trail, instanceID string) *slog.Logger {
	if trail == nil {
		return log
	}
	// Bridges of one machine may share a trail.
	master := slog.String("master", instanceID)
	return slog.New(slog.NewMultiHandler(log.Handler(), trail.Handler().WithAttrs([]slog.Attr{master})))
}

// Run runs all loops until ctx ends or one of them must give up.
func (s *Service) Run(ctx context.Context) error {
	if s.opts.Trail != nil { // it ends last: nothing that was decided is left out
		over, end := context.WithCancel(context.WithoutCancel(ctx))
		var trail errgroup.Group
		trail.Go(func() error { return s.opts.Trail.Run(over) })
		defer func() {
			end()
			_ = trail.Wait() // it logs its own faults
		}()
	}
	g, ctx := errgroup.WithContext(ctx)
	if s.opts.Trail != nil {
		trail := slog.New(s.opts.Trail.Handler().WithAttrs([]slog.Attr{slog.String("master", s.opts.Config.InstanceID)}))
		trail.Info("bridge started", "version", s.opts.Version)
		defer trail.Info("bridge ended") // before the trail ends
		g.Go(func() error { return s.recordOutages(ctx, trail) })
	}
	s.readKey()
	g.Go(func() error { return s.beats.Run(ctx) })
	g.Go(func() error { return s.health.Run(ctx) })
	if h := s.opts.Heal; h.After > 0 && h.Heals != nil && h.Unhealthy != nil {
		g.Go(func() error { return s.runHeal(ctx) })
	}
	if s.opts.Metadata != nil {
		g.Go(func() error {
			return health.WatchInstance(ctx, s.opts.Metadata, s.beats.SetZone, s.drain, s.opts.Log)
		})
	}
	g.Go(func() error { return s.engine.Run(ctx) })
	g.Go(func() error { return s.passGate(ctx) })
	g.Go(func() error { return s.runReady(ctx) })
	if s.opts.Bus != nil {
		ears := handlers{s.inbox}
		if s.opts.Runs != nil {
			ears = append(ears, s.opts.Runs)
		}
		if s.opts.Relay != nil {
			ears = append(ears, s.opts.Relay)
			g.Go(func() error { return s.opts.Relay.Run(ctx) })
		}
		g.Go(func() error { return s.opts.Bus.Run(ctx, ears) })
	}
	if s.opts.Queue != nil {
		g.Go(func() error { return s.opts.Queue.Run(ctx) })
	}
	if s.opts.Monitor != nil {
		g.Go(func() error { return s.serveMonitor(ctx) })
	}
	if s.opts.Serve != nil {
		g.Go(func() error { return s.opts.Serve(ctx, s) })
	}
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// handlers hands each event to several handlers.
type handlers []bus.Handler

func (all handlers) Event(e event.Event) {
	for _, h := range all {
		h.Event(e)
	}
}

func (all handlers) Gap(reason string) {
	for _, h := range all {
		h.Gap(reason)
	}
}

// ErrNoQueue: this bridge is given neither queues nor groups.
var ErrNoQueue = errors.New("neither sqs.queues nor autoscaling.groups names anything")

// Release retires the instances that wait for an operator because of the termination
// limit, and returns them.
func (s *Service) Release(ctx context.Context) ([]string, error) {
	if s.opts.Queue == nil {
		return nil, ErrNoQueue
	}
	return s.opts.Queue.Release(ctx)
}

// Report is all that a bridge says of itself.
type Report struct {
	InstanceID   string              `json:"instanceid"`
	Incarnation  string              `json:"incarnation"`
	Started      time.Time           `json:"started"`
	Master       fleet.Master        `json:"master"`
	Version      string              `json:"version"`
	Ready        bool                `json:"ready"`         // minions may be sent here
	NotReady     string              `json:"not_ready"`     // why not; empty: they may
	Proven       time.Time           `json:"proven"`        // when the master was last proven to serve; zero: never
	Unproven     bool                `json:"unproven"`      // it is not proven to serve now
	Twin         string              `json:"twin"`          // another bridge runs under this instance_id; empty: none
	StoreReached bool                `json:"store_reached"` // by the heartbeat, lately
	Beat         time.Time           `json:"beat"`          // the last that reached the store; zero: none
	Counts       Counts              `json:"counts"`
	Bus          BusReport           `json:"bus"`
	Engine       Status              `json:"engine"`
	Queue        *autoscaling.Status `json:"queue"` // null: neither queue nor group is named
	Relay        *relay.Status       `json:"relay"` // null: there is none (relay.listen)
}

// BusReport is how the master's event bus is doing.
type BusReport struct {
	Connected bool   `json:"connected"`
	Framing   string `json:"framing"`
	Events    uint64 `json:"events"`
	Malformed uint64 `json:"malformed"`
	Gaps      uint64 `json:"gaps"`
	Error     string `json:"error"` // why it is not connected, or was not before
}

func reportOf(s bus.State) BusReport {
	r := BusReport{Connected: !s.Since.IsZero(), Framing: fmt.Sprint(s.Framing), Events: s.Events, Malformed: s.Malformed, Gaps: s.Gaps}
	if s.LastErr != nil {
		r.Error = s.LastErr.Error()
	}
	return r
}

// LastStep is when the engine's loop last came round, or when it began.
func (s *Service) LastStep() time.Time {
	if at := s.engine.Status().At; at.After(s.started) {
		return at
	}
	return s.started
}

// Report may be called by any goroutine.
func (s *Service) Report() Report {
	r := Report{InstanceID: s.opts.Config.InstanceID, Incarnation: s.opts.Config.Incarnation, Started: s.started,
		Version: s.opts.Version, Master: s.beats.Row(), StoreReached: s.beats.StoreReached(time.Now()), Engine: s.engine.Status(),
		Counts: s.audit.counters.Counts()}
	_, r.Beat = s.beats.last()
	r.Proven, r.Unproven = s.health.Proven(), s.health.Fault() != nil
	if err := s.Ready(); err != nil {
		r.NotReady = err.Error()
	}
	r.Ready = r.NotReady == ""
	if err := s.beats.Twin(); err != nil {
		r.Twin = err.Error()
	}
	r.Bus.Error = "bus: off"
	if s.opts.Bus != nil {
		r.Bus = reportOf(s.opts.Bus.State())
	}
	if s.opts.Queue != nil {
		status := s.opts.Queue.Status()
		r.Queue = &status
	}
	if s.opts.Relay != nil {
		status := s.opts.Relay.Status()
		r.Relay = &status
	}
	return r
}
