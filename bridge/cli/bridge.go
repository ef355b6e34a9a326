package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/urfave/cli/v2"

	"phoenix/bridge/api"
	"phoenix/bridge/audit"
	"phoenix/bridge/autoscaling"
	"phoenix/bridge/bus"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/health"
	"phoenix/bridge/service"
)

// bridgeName is the command of the service.
const bridgeName = "bridge"

func bridgeCommand() *cli.Command {
	return &cli.Command{
		Name:  bridgeName,
		Usage: "run beside a Salt master: accept keys, run first highstates (a service)",
		Description: "Runs until it is told to stop, as root or as the master's user. While the master or the store do not\n" +
			"answer it waits and tries again; nothing is lost.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done now, do nothing, and end"}},
		Action: makingStore(runBridge),
	}
}

func runBridge(c *cli.Context, cfg config.Config, store fleet.Store) error {
	log, err := newLogger(c, cfg)
	if err != nil {
		return err
	}
	if err := checkStore(c.Context, store, log); err != nil {
		return err
	}
	master, keys, client, err := openSalt(cfg)
	if err != nil {
		return err
	}
	here, err := locate(c.Context, &cfg, master.Interface)
	if err != nil {
		return err
	}
	engine, err := engineConfig(cfg)
	if err != nil {
		return err
	}
	var loaded aws.Config
	if cfg.OnAWS() {
		if loaded, err = loadAWS(c.Context, cfg); err != nil {
			return err
		}
		if err := engineOnAWS(&engine, cfg, loaded, store, here, log); err != nil {
			return err
		}
	}
	if c.Bool("dry-run") {
		return service.DryRun(c.Context, engine, store, keys, c.App.Writer)
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
	inbox, counters := service.NewInbox(), &service.Counters{}
	store = service.CountFailures(store, counters)
	trail := audit.New(cfg.Audit.File, log)
	left := autoscaling.Left(master.Interface, master.PublishPort)
	messages, err := openQueue(cfg, loaded, store, left, inbox.Wrote, service.DecisionLog(log, trail, engine.InstanceID), log)
	if err != nil {
		return usageError(err)
	}
	relay, relayAt, err := openRelay(cfg, engine, master, client, store, trail, log)
	if err != nil {
		return err
	}
	for _, fault := range master.Skipped {
		log.Warn("included file left out, as Salt leaves it out", "err", fault)
	}
	engine.Accepted = service.OpenAccepted(acceptedFile(cfg), log)
	log.Info("bridge starts", "version", version, "instance", engine.InstanceID, "incarnation", engine.Incarnation,
		"store", cfg.Store, "admit", cfg.Admit, "master", master.RetEndpoint(), "bus", where.Path+where.Address, "socket", cfg.Socket,
		"audit", cfg.Audit.File)
	var metadata health.Metadata
	var heal service.Heal
	if cfg.OnAWS() {
		metadata = instanceMetadata()
		heal = service.Heal{After: cfg.Heal.After, Heals: heals, Unhealthy: unhealthy(cfg, loaded)}
	}
	s := service.New(service.Options{
		Config: engine, Store: store, Master: client, Keys: keys, Inbox: inbox, Bus: events, Queue: messages, Log: log,
		Trail: trail, Relay: relay,
		Beat: fleet.Beat{InstanceID: engine.InstanceID, IPAddr: cfg.Address, Incarnation: engine.Incarnation, Relay: relayAt,
			Zone: here.Zone, PublishPort: master.PublishPort, RetPort: master.RetPort},
		Connected: left,
		Ready:     ready(cfg, master), Prove: client.Prove, Metadata: metadata, AdviceFile: besideTrail(cfg, "followed-advice"), Heal: heal, Version: version, Counters: counters, Monitor: monitor,
		Serve: func(ctx context.Context, s *service.Service) error {
			attend(ctx, s.Turned, log) // it serves: what it waits for, status says
			return api.Serve(ctx, listener, api.Bridge{Look: inbox.Changed, Restore: inbox.Restore, Status: func() any { return s.Report() }, Release: s.Release,
				Hint: hinted(inbox), Jobs: relayedJobs(relay), Command: command(cfg, store), Users: []int{uid}, Log: log})
		},
	})
	if err := s.Run(c.Context); err != nil {
		return err
	}
	log.Info("bridge stops")
	return nil
}

// acceptedFile is where a bridge writes down which keys this master has accepted.
func acceptedFile(cfg config.Config) string { return besideTrail(cfg, "accepted-keys") }

// besideTrail names a file beside the audit trail. Bridges of one machine have each
// their own.
func besideTrail(cfg config.Config, what string) string {
	return filepath.Join(filepath.Dir(cfg.Audit.File), what+"."+url.PathEscape(cfg.InstanceID))
}

func newLogger(c *cli.Context, cfg config.Config) (*slog.Logger, error) {
	level, err := config.LogLevel(cfg.LogLevel)
	if err != nil {
		return nil, usageError(err)
	}
	return slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: level})), nil
}

const (
	// pollSQLite: another process's write is noticed that soon; a read of a local
	// file costs next to nothing.
	pollSQLite = 5 * time.Second
	// unknownSQLite: so is an id that was added a moment ago.
	unknownSQLite = time.Second
	// pollDynamoDB, unknownDynamoDB: there each read is paid for, and an unknown
	// minion knocks every 10 s, for ever.
	pollDynamoDB    = time.Minute
	unknownDynamoDB = time.Minute
)

func engineConfig(cfg config.Config) (service.Config, error) {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return service.Config{}, fmt.Errorf("make incarnation: %w", err)
	}
	poll, unknown := pollSQLite, unknownSQLite
	if cfg.OnDynamoDB() {
		poll, unknown = pollDynamoDB, unknownDynamoDB
	}
	h := cfg.Highstate
	return service.Config{
		InstanceID: cfg.InstanceID, Incarnation: hex.EncodeToString(id),
		Admit: decide.Admit(cfg.Admit), ValidID: cfg.ValidID(),
		Highstate: decide.Policy{Enabled: h.Enabled, Attempts: h.Attempts, Lease: h.Lease},
		Function:  h.Function, Args: h.Args, Kwargs: h.Kwargs, Concurrency: h.Concurrency,
		CompareEvery: service.CompareEvery, PollEvery: poll, UnknownFor: unknown,
	}, nil
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
