package compose

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/api"
	"phoenix/bridge/audit"
	"phoenix/bridge/autoscaling"
	"phoenix/bridge/relay"
	"phoenix/bridge/service"
)

// bridge is the parts of a bridge that outlive its start, and its loops.
type bridge struct {
	version   string
	service   *service.Service
	bus       eventBus
	queue     *autoscaling.Queue // nil: neither queue nor group is named
	relay     *relay.Relay       // nil: relay.listen is not set
	trail     *audit.Trail
	counters  *service.Counters
	connected func() (int, error) // counts the minions that are connected
	log       *slog.Logger

	loops []func(ctx context.Context) error
}

// add adds a loop: it runs until ctx ends, and an error of it ends the bridge.
func (b *bridge) add(loop func(ctx context.Context) error) { b.loops = append(b.loops, loop) }

// run runs all loops until ctx ends or one of them gives up.
func (b *bridge) run(ctx context.Context) error {
	// The trail ends last: it has each decision that was made.
	trailCtx, end := context.WithCancel(context.WithoutCancel(ctx))
	var trail errgroup.Group
	trail.Go(func() error { return b.trail.Run(trailCtx) })
	defer func() {
		end()
		_ = trail.Wait() // it logs its own faults
	}()
	g, ctx := errgroup.WithContext(ctx)
	for _, loop := range b.loops {
		g.Go(func() error { return loop(ctx) })
	}
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// report is what the bridge reports of itself and of all its parts.
func (b *bridge) report() service.Report {
	r := b.service.Report()
	r.Version = b.version
	r.Bus = b.bus.report()
	if b.queue != nil {
		status := b.queue.Status()
		r.Queue = &status
	}
	if b.relay != nil {
		status := b.relay.Status()
		r.Relay = &status
	}
	return r
}

// status is report for the socket; see api.Bridge.
func (b *bridge) status(all bool) any {
	if all {
		return b.report()
	}
	return b.report().Brief()
}

var errNoQueue = errors.New("neither sqs.queues nor autoscaling.groups names anything")

// release retires the instances that wait for an operator because of the termination
// limit, and returns them.
func (b *bridge) release(ctx context.Context) ([]string, error) {
	if b.queue == nil {
		return nil, errNoQueue
	}
	return b.queue.Release(ctx)
}

// recordOutages records in the trail alone that the bridge starts and ends, and what it
// lost meanwhile: the log has its own lines.
func (b *bridge) recordOutages(ctx context.Context, instanceID string) error {
	trail := slog.New(b.trail.Handler().WithAttrs([]slog.Attr{slog.String("master", instanceID)}))
	trail.Info("bridge started", "version", b.version)
	defer trail.Info("bridge ended")
	return b.service.RecordOutages(ctx, trail, func() error {
		switch r := b.bus.report(); {
		case b.bus.Connected():
			return nil
		case r.Error != "":
			return errors.New(r.Error)
		}
		return errors.New("not connected")
	})
}

// serveMonitor serves metrics and health on l, and pages beside them.
func (b *bridge) serveMonitor(ctx context.Context, l net.Listener, pages http.Handler) error {
	return api.ServeMonitor(ctx, l, api.Monitor{Metrics: service.Registry(b.report, b.counters.Durations),
		Alive: b.service.Alive, Ready: b.service.Ready, Log: b.log, Pages: pages})
}

// decisionLog logs decisions to log and to the trail. Bridges of one machine may share
// a trail: each line there names the master.
func decisionLog(log *slog.Logger, trail *audit.Trail, instanceID string) *slog.Logger {
	master := slog.String("master", instanceID)
	return slog.New(slog.NewMultiHandler(log.Handler(), trail.Handler().WithAttrs([]slog.Attr{master})))
}
