// Package compose puts the parts of a bridge together and runs them: it is the one
// place that knows them all.
package compose

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"phoenix/bridge/api"
	"phoenix/bridge/audit"
	"phoenix/bridge/autoscaling"
	"phoenix/bridge/awsenv"
	"phoenix/bridge/bus"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/health"
	"phoenix/bridge/lastrun"
	"phoenix/bridge/metrics"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
	"phoenix/bridge/service"
)

// Options are what a bridge needs besides its configuration and its store.
type Options struct {
	Version string
	Log     *slog.Logger
	// Translate returns the operation that an older runner asks for; see api.Bridge.
	Translate func(args []string) (api.Request, error)
	// Operate returns what performs the operations of the socket, with the
	// configuration and the store of the bridge; see api.Bridge.
	Operate func(cfg config.Config, store fleet.Store) func(ctx context.Context, r api.Request) (api.Answer, error)
	// Pages returns what serves the page for browsers, with the configuration and the
	// store of the bridge. It is called where ui is set.
	Pages func(cfg config.Config, store fleet.Store) http.Handler
	// Watch runs beside the bridge until ctx ends.
	Watch func(ctx context.Context, cfg config.Config, store fleet.Store) error
}

// DryRun writes what a bridge would do now, and does nothing.
func DryRun(ctx context.Context, cfg config.Config, store fleet.Store, log *slog.Logger, out io.Writer) error {
	master, keys, _, err := open.Master(cfg)
	if err != nil {
		return err
	}
	engine, _, _, err := Engine(ctx, &cfg, master.Interface, store, log)
	if err != nil {
		return err
	}
	return service.DryRun(ctx, engine, store, keys, out)
}

// Bridge runs a bridge until ctx ends or a part of it gives up.
func Bridge(ctx context.Context, cfg config.Config, store fleet.Store, o Options) error {
	log := o.Log
	master, keys, client, err := open.Master(cfg)
	if err != nil {
		return err
	}
	engine, here, loaded, err := Engine(ctx, &cfg, master.Interface, store, log)
	if err != nil {
		return err
	}
	uid, gid := socketUser(master.User, log)
	listener, err := api.Listen(cfg.Socket, gid)
	if err != nil {
		return err
	}
	where := bus.Config{Logger: log}
	switch network, address := master.EventSocket(); network {
	case "unix":
		where.Path = address
	default:
		where.Address = address
	}
	monitor, err := listenHTTP(cfg.HTTPListen)
	if err != nil {
		return err
	}
	events, err := bus.New(where)
	if err != nil {
		return err
	}
	if cfg.Bus == config.BusOff {
		events, where = nil, bus.Config{Path: config.BusOff}
	}
	heals, _ := store.(fleet.Heals) // each store of ours is one
	engine.Breakers = fleet.BreakersOf(store)
	inbox, counters := service.NewInbox(), &service.Counters{Durations: metrics.NewDurations()}
	store = service.CountFailures(store, counters)
	open.Folder(cfg.Audit.File)
	trail := audit.New(cfg.Audit.File, log)
	left := autoscaling.Left(master.Interface, master.PublishPort)
	messages, err := openQueue(cfg, loaded, store, halted(engine), left, inbox.Upsert, counters.Durations.Message, service.DecisionLog(log, trail, engine.InstanceID), log)
	if err != nil {
		return config.Invalid(err)
	}
	relay, relayAt, err := openRelay(cfg, engine, master, client, store, trail, log)
	if err != nil {
		return err
	}
	for _, fault := range master.Skipped {
		log.Warn("included file ignored, as Salt ignores it", "err", fault)
	}
	engine.Accepted = service.OpenAccepted(acceptedFile(cfg), log)
	log.Info("bridge starts", "version", o.Version, "instance", engine.InstanceID, "incarnation", engine.Incarnation,
		"store", cfg.Store, "admit", cfg.Admit, "master", master.RetEndpoint(), "bus", where.Path+where.Address, "socket", cfg.Socket,
		"audit", cfg.Audit.File)
	var metadata health.Metadata
	var heal service.Heal
	if cfg.OnAWS() {
		metadata = awsenv.Metadata()
		heal = service.Heal{After: cfg.Heal.After, Heals: heals, Unhealthy: awsenv.SetUnhealthy(cfg, loaded)}
	}
	runs := lastrun.New(func(id string) bool {
		_, err := keys.Version(id, salt.Accepted)
		return err == nil
	})
	var pages http.Handler
	if cfg.UI && o.Pages != nil {
		pages = o.Pages(cfg, store)
	}
	s := service.New(service.Options{
		Config: engine, Store: store, Master: timedMaster{client, counters.Durations}, Keys: keys, Inbox: inbox, Bus: events, Queue: messages, Log: log,
		Trail: trail, Runs: runs, Relay: relay,
		Beat: fleet.Beat{InstanceID: engine.InstanceID, IPAddr: cfg.Address, Incarnation: engine.Incarnation, Relay: relayAt,
			Zone: here.Zone, PublishPort: master.PublishPort, RetPort: master.RetPort},
		Connected: left,
		Ready:     ready(cfg, master), Prove: client.Prove, Metadata: metadata, AdviceFile: besideTrail(cfg, "followed-advice"), Heal: heal, Version: o.Version, Counters: counters, Monitor: monitor, Pages: pages,
		Serve: func(ctx context.Context, s *service.Service) error {
			Attend(ctx, s.LastStep, log) // it serves: what it waits for, status says
			both, ctx := errgroup.WithContext(ctx)
			if o.Watch != nil {
				both.Go(func() error { return o.Watch(ctx, cfg, store) })
			}
			both.Go(func() error { return publishMetrics(ctx, cfg, loaded, s.Report, left, log) })
			both.Go(func() error {
				return api.Serve(ctx, listener, api.Bridge{Look: inbox.Invalidate, Restore: inbox.Restore, Status: func() any { return s.Report() }, Release: s.Release,
					Hint: hint(inbox), Runs: lastRuns(cfg, runs), Jobs: relayedJobs(relay), Operate: o.Operate(cfg, store), Translate: o.Translate, Users: []int{uid}, Log: log})
			})
			return both.Wait()
		},
	})
	if err := s.Run(ctx); err != nil {
		return err
	}
	log.Info("bridge stops")
	return nil
}

// lastRuns returns what answers the socket's /v1/runs; nil if no event is read.
func lastRuns(cfg config.Config, runs *lastrun.Record) func(of, after string) any {
	if cfg.Bus == config.BusOff {
		return nil
	}
	return func(of, after string) any {
		if of != "" {
			return runs.Of(of)
		}
		return runs.After(after)
	}
}

// acceptedFile is where a bridge writes down which keys this master has accepted.
func acceptedFile(cfg config.Config) string { return besideTrail(cfg, "accepted-keys") }

// besideTrail names a file beside the audit trail. Bridges of one machine have each
// their own.
func besideTrail(cfg config.Config, what string) string {
	return filepath.Join(filepath.Dir(cfg.Audit.File), what+"."+url.PathEscape(cfg.InstanceID))
}

// listenHTTP listens for whoever watches the bridge; nil if nobody shall.
func listenHTTP(address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on http_listen: %w", err)
	}
	return l, nil
}
