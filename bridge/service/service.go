package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/audit"
	"phoenix/bridge/bus"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/queue"
	"phoenix/bridge/relay"
)

// Defaults of what an operator cannot say.
const (
	// CompareEvery bounds for how long an event that was lost can matter.
	CompareEvery = 2 * time.Minute
	// compareJitter keeps masters that were started together apart.
	compareJitter = 0.2
)

// Options are the parts of a bridge. Those that are nil are left out.
type Options struct {
	Config Config
	Store  fleet.Store
	Master Master
	Keys   KeyStore
	Inbox  *Inbox // hints come in there
	Bus    *bus.Bus
	Queue  *queue.Queue
	Beat   fleet.Beat
	Ready  Ready
	Log    *slog.Logger
	Trail  *audit.Trail // decisions go there, and to Log

	Version string // of phoenix, for people

	Counters *Counters // nil: its own; those of Store's failures, else: see CountFailures

	Monitor net.Listener // of metrics and health; nil: none

	Relay *relay.Relay // of jobs between masters; nil: none. It needs Bus

	// Serve answers runners and admins until ctx ends.
	Serve func(ctx context.Context, s *Service) error
}

// Service is a bridge: the loops of one master.
type Service struct {
	opts    Options
	engine  *Engine
	beats   *Beats
	audit   *Audit
	inbox   *Inbox
	started time.Time
}

// New puts the parts together.
func New(opts Options) *Service {
	spread := 1 + compareJitter*(rand.Float64()*2-1)
	opts.Config.CompareEvery = time.Duration(float64(opts.Config.CompareEvery) * spread)
	if opts.Inbox == nil {
		opts.Inbox = NewInbox()
	}
	s := &Service{opts: opts, inbox: opts.Inbox, started: time.Now(), audit: NewAudit(decisionLog(opts))}
	if opts.Counters != nil {
		s.audit.counters = opts.Counters
	}
	s.beats = NewBeats(opts.Store, opts.Beat, opts.Config.Highstate.Lease, time.Now, opts.Log)
	s.engine = NewEngine(opts.Config, opts.Store, opts.Master, opts.Keys, s.beats, s.inbox,
		s.audit, time.Now, opts.Log)
	return s
}

func decisionLog(opts Options) *slog.Logger {
	if opts.Trail == nil {
		return opts.Log
	}
	// Bridges of one machine may share a trail.
	master := slog.String("master", opts.Config.InstanceID)
	return slog.New(slog.NewMultiHandler(opts.Log.Handler(), opts.Trail.Handler().WithAttrs([]slog.Attr{master})))
}

// Run runs all loops until ctx ends or one of them must give up.
func (s *Service) Run(ctx context.Context) error {
	if s.opts.Trail != nil { // it ends last: nothing that was decided is left out
		over, end := context.WithCancel(context.WithoutCancel(ctx))
		var trail errgroup.Group
		trail.Go(func() error { return s.opts.Trail.Run(over) })
		defer func() {
			end()
			_ = trail.Wait() // it tells its faults itself
		}()
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.beats.Run(ctx) })
	g.Go(func() error { return s.engine.Run(ctx) })
	g.Go(func() error { return s.getReady(ctx) })
	if s.opts.Bus != nil {
		var ears bus.Handler = s.inbox
		if s.opts.Relay != nil {
			ears = both{s.inbox, s.opts.Relay}
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

// both hands each event to two handlers.
type both [2]bus.Handler

func (b both) Event(e event.Event) {
	for _, h := range b {
		h.Event(e)
	}
}

func (b both) Gap(reason string) {
	for _, h := range b {
		h.Gap(reason)
	}
}

// ErrNoQueue: this bridge is told of neither queues nor groups.
var ErrNoQueue = errors.New("neither sqs.queues nor autoscaling.groups names anything")

// Release retires the instances that the brake of reconciling holds, an
// operator's word, and returns them.
func (s *Service) Release(ctx context.Context) ([]string, error) {
	if s.opts.Queue == nil {
		return nil, ErrNoQueue
	}
	return s.opts.Queue.Release(ctx)
}

// Report is all that a bridge says of itself.
type Report struct {
	InstanceID  string        `json:"instanceid"`
	Incarnation string        `json:"incarnation"`
	Started     time.Time     `json:"started"`
	Master      fleet.Master  `json:"master"`
	Version     string        `json:"version"`
	Ready       bool          `json:"ready"`         // minions may be sent here
	Reach       bool          `json:"store_reached"` // by the heartbeat, lately
	Beat        time.Time     `json:"beat"`          // the last that reached the store; zero: none
	Counts      Counts        `json:"counts"`
	Bus         BusReport     `json:"bus"`
	Engine      Status        `json:"engine"`
	Queue       *queue.Status `json:"queue"` // null: neither queue nor group is named
	Relay       *relay.Status `json:"relay"` // null: there is none (relay.listen)
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

// Turned is when the engine's loop last came round, or when it began.
func (s *Service) Turned() time.Time {
	if at := s.engine.Status().At; at.After(s.started) {
		return at
	}
	return s.started
}

// Report may be called by any goroutine.
func (s *Service) Report() Report {
	r := Report{InstanceID: s.opts.Config.InstanceID, Incarnation: s.opts.Config.Incarnation, Started: s.started,
		Version: s.opts.Version, Master: s.beats.Row(), Reach: s.beats.Reach(time.Now()), Engine: s.engine.Status(),
		Counts: s.audit.counters.Counts()}
	_, r.Beat = s.beats.last()
	r.Ready = r.Master.Ready && r.Master.Incarnation == r.Incarnation
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

// Ready is what must be so before minions are sent to a master.
type Ready struct {
	// Command must exit 0; nil: none. On AWS: salt-run fileserver.update, since a
	// first highstate without states fails for nothing.
	Command func(ctx context.Context) error
	// Key gives the digest of the master's own public key.
	Key func() (string, error)
}

const (
	// readyEvery: how often a master that is not ready looks again; a look at
	// memory. A command that failed is given longer.
	readyEvery = 200 * time.Millisecond
	// quietFor: what is usual at a start is not worth a warning.
	quietFor = 5 * time.Second
)

// getReady waits until bus, keys and fleet are as they must be, then says so.
func (s *Service) getReady(ctx context.Context) error {
	told, wait := "", readyEvery
	for {
		err := s.notReady()
		if err == nil {
			if err = s.runReady(ctx); err == nil {
				break
			}
			wait = min(wait*2, retryMost)
		}
		if err.Error() != told && time.Since(s.started) > quietFor && ctx.Err() == nil {
			told = err.Error()
			s.opts.Log.Warn("not ready", "err", err)
		}
		if !sleep(ctx, wait) {
			return nil
		}
	}
	s.beats.SetReady(true)
	s.opts.Log.Info("ready", "took", time.Since(s.started).Round(time.Millisecond))
	return nil
}

func (s *Service) runReady(ctx context.Context) error {
	if s.opts.Ready.Command == nil {
		return nil
	}
	if err := s.opts.Ready.Command(ctx); err != nil {
		return fmt.Errorf("run ready.command: %w", err)
	}
	return nil
}

// notReady says what is still missing.
func (s *Service) notReady() error {
	if s.opts.Bus != nil && s.opts.Bus.State().Since.IsZero() {
		return errors.New("event bus is not connected")
	}
	if st := s.engine.Status(); !st.Compared {
		return fmt.Errorf("keys and fleet are not compared yet: %s", st.Held)
	}
	if s.opts.Ready.Key != nil {
		digest, err := s.opts.Ready.Key()
		if err != nil {
			return fmt.Errorf("read master key: %w", err)
		}
		s.beats.SetKey(digest)
	}
	return nil
}
