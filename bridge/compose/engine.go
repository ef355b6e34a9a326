package compose

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/awsenv"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/service"
)

// Engine returns the configuration of the engine, and what it asked AWS on the way.
// It fills in cfg's instance_id and address.
func Engine(ctx context.Context, cfg *config.Config, iface string, store fleet.Store,
	log *slog.Logger) (service.Config, awsenv.Identity, aws.Config, error) {
	here, err := awsenv.IdentifyMaster(ctx, cfg, iface)
	if err != nil {
		return service.Config{}, here, aws.Config{}, err
	}
	engine, err := engineConfig(*cfg)
	if err != nil || !cfg.OnAWS() {
		return engine, here, aws.Config{}, err
	}
	loaded, err := awsenv.Load(ctx, *cfg)
	if err != nil {
		return engine, here, loaded, err
	}
	return engine, here, loaded, engineOnAWS(&engine, *cfg, loaded, store, here, log)
}

const (
	// pollSQLite: another process's write is noticed that soon; a read of a local
	// file costs next to nothing.
	pollSQLite = 5 * time.Second
	// unknownSQLite: so is an id that was added a moment ago.
	unknownSQLite = time.Second
	// pollDynamoDB, unknownDynamoDB: there each read costs money, and an unknown
	// minion sends an auth request every 10 s, without end.
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
	breaker, err := decide.ParseBreaker(h.Breaker)
	if err != nil {
		return service.Config{}, config.Invalid(fmt.Errorf("highstate.breaker: %w", err))
	}
	var names service.Names // EC2's follow in engineOnAWS
	if autoscaling.ByExpression(cfg.IDFrom) {
		if names, err = autoscaling.NewNames(cfg.IDFrom, nil, nil); err != nil {
			return service.Config{}, config.Invalid(fmt.Errorf("id_from: %w", err))
		}
	}
	return service.Config{
		Names: names, FirstName: names != nil,
		InstanceID: cfg.InstanceID, Incarnation: hex.EncodeToString(id),
		Admit: decide.Admit(cfg.Admit), ValidID: cfg.ValidID(),
		Highstate: decide.Policy{Enabled: h.Enabled, Attempts: h.Attempts, Lease: h.Lease, Breaker: breaker},
		Function:  h.Function, Args: h.Args, Kwargs: cfg.HighstateKwargs(), Concurrency: h.Concurrency,
		ResyncEvery: service.ResyncEvery, PollEvery: poll, UnknownFor: unknown,
	}, nil
}

// engineOnAWS sets what only AWS knows: which instance has which minion id, and
// which key is an instance's own.
func engineOnAWS(engine *service.Config, cfg config.Config, loaded aws.Config, store fleet.Store, here awsenv.Identity,
	log *slog.Logger) error {
	names, err := autoscaling.NewNames(cfg.IDFrom, awsenv.EC2(loaded), log)
	if err != nil {
		return config.Invalid(fmt.Errorf("id_from: %w", err))
	}
	if names != nil {
		engine.Names = names
	}
	if engine.Admit == decide.Proven {
		if !cfg.OnDynamoDB() {
			return config.Invalid(errors.New("admit: proven needs the proofs of store dynamodb"))
		}
		engine.Proofs = awsenv.Proofs{Store: store, Here: here}
	}
	return nil
}

// halted returns what reads whether the circuit breaker of first highstates is open; nil
// if there is none.
func halted(engine service.Config) func(context.Context) (bool, error) {
	if engine.Breakers == nil || engine.Highstate.Breaker.Off() || !engine.Highstate.Enabled {
		return nil
	}
	return func(ctx context.Context) (bool, error) {
		b, err := engine.Breakers.LastBreaker(ctx)
		if errors.Is(err, fleet.ErrCorrupt) {
			return true, nil // as the engine takes it
		}
		return b.Open(), err
	}
}

// openQueue returns what reads the queues and the groups; nil if the configuration
// names neither. c has what only the bridge knows.
func openQueue(cfg config.Config, loaded aws.Config, store fleet.Store, c autoscaling.Config,
	log *slog.Logger) (*autoscaling.Queue, error) {
	c.Queues, c.Groups = cfg.Items()
	if len(c.Queues)+len(c.Groups) == 0 {
		return nil, nil
	}
	c.Self, c.Hooks = cfg.InstanceID, cfg.AutoScaling.Hooks
	c.Every, c.LaunchFailures = autoscaling.ReconcileEvery, cfg.AutoScaling.LaunchFailures
	if cfg.Highstate.Enabled {
		c.Attempts = cfg.Highstate.Attempts
	}
	groups := awsenv.AutoScaling(cfg, loaded)
	api := autoscaling.API{Groups: groups, Lifecycle: groups, EC2: awsenv.EC2(loaded),
		SQS: awsenv.SQS(cfg, loaded)}
	return autoscaling.New(c, store, api, log)
}
