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

	"phoenix/bridge/api"
	"phoenix/bridge/audit"
	"phoenix/bridge/autoscaling"
	"phoenix/bridge/awsenv"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
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
	monitor, err := listenHTTP(cfg.HTTPListen)
	if err != nil {
		return err
	}
	events, where, err := openBus(cfg, master, log)
	if err != nil {
		return err
	}
	heals, _ := store.(fleet.Heals) // each store of ours is one
	engine.Breakers = fleet.BreakersOf(store)
	inbox, counters := service.NewInbox(), &service.Counters{Durations: metrics.NewDurations()}
	store = service.CountFailures(store, counters)
	open.Folder(cfg.Audit.File)
	trail := audit.New(cfg.Audit.File, log)
	decisions := decisionLog(log, trail, engine.InstanceID)
	b := &bridge{version: o.Version, bus: events, trail: trail, counters: counters, log: log,
		connected: autoscaling.Connected(master.Interface, master.PublishPort)}
	left := autoscaling.Left(master.Interface, master.PublishPort)
	b.queue, err = openQueue(cfg, loaded, store, autoscaling.Config{Left: left, Halted: halted(engine),
		Changed: inbox.Upsert, Age: counters.Durations.Message, Decisions: decisions}, log)
	if err != nil {
		return config.Invalid(err)
	}
	var relayAt string
	if b.relay, relayAt, err = openRelay(cfg, engine, master, client, store, decisions, log); err != nil {
		return err
	}
	for _, fault := range master.Skipped {
		log.Warn("included file ignored, as Salt ignores it", "err", fault)
	}
	engine.Accepted = service.OpenAccepted(acceptedFile(cfg), log)
	log.Info("bridge starts", "version", o.Version, "instance", engine.InstanceID, "incarnation", engine.Incarnation,
		"store", cfg.Store, "admit", cfg.Admit, "master", master.RetEndpoint(), "bus", where, "socket", cfg.Socket,
		"audit", cfg.Audit.File)
	b.service, err = service.New(engine,
		fleet.Beat{IPAddr: cfg.Address, Relay: relayAt, Zone: here.Zone, PublishPort: master.PublishPort,
			RetPort: master.RetPort},
		service.Parts{Store: store, Master: timedMaster{client, counters.Durations}, Keys: keys, Prober: client,
			Bus: events, Inbox: inbox,
			Checks: checks(cfg), MasterKey: func() (string, error) { return salt.MasterKeyDigest(master) },
			Connections: connections(b.connected, left),
			Counters:    counters, Log: log, Decisions: decisions})
	if err != nil {
		return err
	}
	b.add(b.service.Run)
	b.add(func(ctx context.Context) error { return b.recordOutages(ctx, engine.InstanceID) })
	runs := lastrun.New(func(id string) bool {
		_, err := keys.Version(id, salt.Accepted)
		return err == nil
	})
	ears := handlers{inbox, runs}
	if b.relay != nil {
		ears = append(ears, b.relay)
	}
	b.add(func(ctx context.Context) error { return events.Run(ctx, ears) })
	if b.relay != nil {
		b.add(b.relay.Run)
	}
	if b.queue != nil {
		b.add(b.queue.Run)
	}
	if cfg.OnAWS() {
		b.add(service.NewInstanceWatch(b.service, awsenv.Metadata(), besideTrail(cfg, "followed-advice")).Run)
		if cfg.Heal.After > 0 && heals != nil {
			b.add(service.NewHealer(b.service, cfg.Heal.After, heals, awsenv.SetUnhealthy(cfg, loaded)).Run)
		}
	}
	if monitor != nil {
		var pages http.Handler
		if cfg.UI && o.Pages != nil {
			pages = o.Pages(cfg, store)
		}
		b.add(func(ctx context.Context) error { return b.serveMonitor(ctx, monitor, pages) })
	}
	if o.Watch != nil {
		b.add(func(ctx context.Context) error { return o.Watch(ctx, cfg, store) })
	}
	b.add(func(ctx context.Context) error { return publishMetrics(ctx, cfg, loaded, b.report, b.connected, log) })
	b.add(func(ctx context.Context) error {
		Attend(ctx, b.service.LastStep, log) // it serves: what it waits for, status says
		return api.Serve(ctx, listener,
			api.Bridge{Invalidate: inbox.Invalidate, Restore: inbox.Restore, Hint: hint(inbox),
				Runs:   lastRuns(cfg, runs),
				Status: b.status, Release: b.release, Jobs: relayedJobs(b.relay),
				Operate: o.Operate(cfg, store), Translate: o.Translate, Users: []int{uid}, Log: log})
	})
	if err := b.run(ctx); err != nil {
		return err
	}
	log.Info("bridge stops")
	return nil
}

// connections counts the minions that are connected; leaving: those that leave with the
// master.
func connections(connected, left func() (int, error)) func(leaving bool) (int, error) {
	return func(leaving bool) (int, error) {
		if leaving {
			return left()
		}
		return connected()
	}
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
