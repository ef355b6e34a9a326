package compose

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/member"
	"phoenix/bridge/relay"
	"phoenix/bridge/salt"
	"phoenix/bridge/service"
)

// openRelay makes the relay, and gives the address that other masters reach it at;
// nil and none where none is wanted.
func openRelay(cfg config.Config, engine service.Config, master salt.Config, client *salt.Master,
	store fleet.Store, decisions,
	log *slog.Logger) (*relay.Relay, string, error) {
	keys, sessions := filepath.Join(master.PKIDir, string(salt.Accepted)), filepath.Join(master.CacheDir, "sessions")
	if cfg.Relay.Listen == "" { // it may have been on, in a bridge that was killed
		if err := member.Sweep(keys, sessions); err != nil {
			log.Warn("relay", "err", err)
		}
		return nil, "", nil
	}
	if master.Transport != salt.ZeroMQ {
		return nil, "", config.Invalid(fmt.Errorf("relay.listen: the relay reads a master's jobs over transport zeromq only, and it is %s", master.Transport))
	}
	us, err := member.New(member.Config{RetEndpoint: master.RetEndpoint(), Publish: master.PublishAddress(),
		KeyFolder: keys, Sessions: sessions,
		MasterKey: func() (string, error) { return salt.MasterKeyDigest(master) }})
	if err != nil {
		return nil, "", err
	}
	listener, err := net.Listen("tcp", cfg.Relay.Listen)
	if err != nil {
		return nil, "", fmt.Errorf("listen on relay.listen: %w", err)
	}
	host, port, _ := net.SplitHostPort(cfg.Relay.Listen)
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = ""
	}
	var cache relay.Cache
	if c, err := salt.OpenDataCache(master); err == nil { // else status says what it needs
		cache = c
	}
	accepted := func(id string) bool {
		info, err := os.Lstat(filepath.Join(keys, id))
		return err == nil && info.Mode().IsRegular()
	}
	r, err := relay.New(relay.Options{Instance: engine.InstanceID, Incarnation: engine.Incarnation, Listener: listener,
		All: cfg.Relay.Jobs == config.RelayAll, Member: us, Publisher: client, Masters: store.Masters,
		MastersIn: engine.PollEvery,
		Pair:      relay.ReadPair(master.PKIDir, master.ID), Cache: cache, Accepted: accepted, Log: log,
		Decisions: decisions})
	if err != nil {
		return nil, "", err
	}
	client.Note(r.Note)
	return r, net.JoinHostPort(cmp.Or(host, cfg.Address), port), nil
}

// relayedJobs answers the socket; nil where there is no relay.
func relayedJobs(r *relay.Relay) func(jid string) (any, error) {
	if r == nil {
		return nil
	}
	return func(jid string) (any, error) {
		if jid == "" {
			return r.Jobs(), nil
		}
		return r.Job(jid)
	}
}
