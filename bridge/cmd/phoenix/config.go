package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	"phoenix/bridge/decide"
)

// Config is all that an operator may say; see settings for the key of each.
type Config struct {
	Store      string
	SaltConfig string
	InstanceID string
	Address    string
	Admit      string
	IDPattern  string
	Socket     string
	LogLevel   string

	Highstate struct {
		Enabled     bool
		Function    string
		Args        []any
		Kwargs      map[string]any
		Attempts    int
		Concurrency int
		Lease       time.Duration
	}
	Ready struct {
		Command []string
	}
	DynamoDB struct {
		Region       string
		Endpoint     string
		MinionsTable string
		MastersTable string
		ProofsTable  string
	}
}

// idPatternSQLite lets host names in, and nothing that Salt, a path or a shell
// could take for more than a name.
const idPatternSQLite = `^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`

// idPatternDynamoDB: on AWS a minion bears its instance's id.
const idPatternDynamoDB = `^i-([0-9a-f]{8}|[0-9a-f]{17})$`

// defaultConfig is what holds where nothing is said.
func defaultConfig() Config {
	var c Config
	c.Store = "sqlite:/var/lib/phoenix/fleet.db"
	c.SaltConfig = "/etc/salt/master"
	c.Admit = string(decide.Bound)
	c.Socket = "/run/phoenix/bridge.sock"
	c.LogLevel = "info"
	c.Highstate.Enabled = true
	c.Highstate.Function = "state.highstate"
	c.Highstate.Attempts = 3
	c.Highstate.Concurrency = 100
	c.Highstate.Lease = 30 * time.Second
	c.DynamoDB.MinionsTable, c.DynamoDB.MastersTable, c.DynamoDB.ProofsTable = "minions", "masters", "proofs"
	return c
}

// settings names each key, and what it is for. Flag and variable follow from the
// key: highstate.lease is --highstate-lease and PHOENIX_HIGHSTATE_LEASE.
func (c *Config) settings() []setting {
	return []setting{
		{"store", &c.Store, "where the fleet is remembered: sqlite:PATH, or dynamodb:"},
		{"salt_config", &c.SaltConfig, "the master's own configuration file"},
		{"instance_id", &c.InstanceID, "this master's name in the fleet (default: the host's name)"},
		{"address", &c.Address, "the address at which minions reach this master (default: its own)"},
		{"admit", &c.Admit, "whose key is let in: listed (the id is in the fleet) or bound (and the key is the first it came with)"},
		{"id_pattern", &c.IDPattern, "regular expression of the minion ids that may be let in (default: host names; with dynamodb: instance ids)"},
		{"socket", &c.Socket, "Unix socket of the bridge, for commands on this machine"},
		{"log_level", &c.LogLevel, "debug, info, warn or error"},
		{"highstate.enabled", &c.Highstate.Enabled, "run first highstates"},
		{"highstate.function", &c.Highstate.Function, "what a first highstate is"},
		{"highstate.args", &c.Highstate.Args, "its positional arguments (a YAML list)"},
		{"highstate.kwargs", &c.Highstate.Kwargs, "its keyword arguments (a YAML map)"},
		{"highstate.attempts", &c.Highstate.Attempts, "tries that may fail before it is shown as failed"},
		{"highstate.concurrency", &c.Highstate.Concurrency, "first highstates that this master runs at a time"},
		{"highstate.lease", &c.Highstate.Lease, "a master whose heartbeat stands still for so long has lost its claims"},
		{"ready.command", &c.Ready.Command, "must exit 0 before minions are sent here (a YAML list: the program and its arguments)"},
		{"dynamodb.region", &c.DynamoDB.Region, "AWS region of the tables (default: as the AWS command line finds it)"},
		{"dynamodb.endpoint", &c.DynamoDB.Endpoint, "URL of DynamoDB (default: AWS's own for the region)"},
		{"dynamodb.minions_table", &c.DynamoDB.MinionsTable, "name of the table of minions"},
		{"dynamodb.masters_table", &c.DynamoDB.MastersTable, "name of the table of masters"},
		{"dynamodb.proofs_table", &c.DynamoDB.ProofsTable, "name of the table of proofs"},
	}
}

// onDynamoDB says whether the fleet is remembered in DynamoDB.
func (c *Config) onDynamoDB() bool { return c.Store == "dynamodb:" }

// Validate fills what follows from other keys, and returns all faults at once.
func (c *Config) Validate() error {
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if path, ok := strings.CutPrefix(c.Store, "sqlite:"); !c.onDynamoDB() && (!ok || path == "") {
		fault("store", "%q is neither sqlite:PATH nor dynamodb:", c.Store)
	}
	if a := decide.Admit(c.Admit); a != decide.Listed && a != decide.Bound {
		fault("admit", "%q is neither listed nor bound", c.Admit)
	}
	if c.IDPattern == "" {
		c.IDPattern = idPatternSQLite
		if c.onDynamoDB() {
			c.IDPattern = idPatternDynamoDB
		}
	}
	if _, err := regexp.Compile(c.IDPattern); err != nil {
		fault("id_pattern", "%v", err)
	}
	if c.InstanceID == "" {
		c.InstanceID, _ = os.Hostname()
	}
	if c.InstanceID == "" {
		fault("instance_id", "is empty, and the host has no name")
	}
	if _, err := logLevel(c.LogLevel); err != nil {
		fault("log_level", "%v", err)
	}
	h := c.Highstate
	if h.Function == "" {
		fault("highstate.function", "is empty")
	}
	if h.Attempts < 1 || h.Attempts > 100 {
		fault("highstate.attempts", "%d is not between 1 and 100", h.Attempts)
	}
	if h.Concurrency < 1 || h.Concurrency > 10_000 {
		fault("highstate.concurrency", "%d is not between 1 and 10000", h.Concurrency)
	}
	if h.Lease < minLease || h.Lease > time.Hour {
		fault("highstate.lease", "%v is not between %v and 1h", h.Lease, minLease)
	}
	return errors.Join(faults...)
}

// minLease: a master beats every 5 s, and stops publishing 10 s before its lease
// could be seen to have run out.
const minLease = 20 * time.Second

// validID gives the check of minion ids. Whatever the operator's pattern says,
// an id that Salt takes for a glob or a list, or that leaves a folder, is refused.
func (c *Config) validID() func(string) bool {
	pattern := regexp.MustCompile(c.IDPattern)
	return func(id string) bool {
		return id != "" && len(id) <= 255 && id[0] != '.' && !strings.ContainsAny(id, "*?[]{}()|^$+,;/\\ \"'`<>&!") &&
			!strings.ContainsFunc(id, func(r rune) bool { return r < 0x21 || r > 0x7e }) && pattern.MatchString(id)
	}
}

// ownAddress is the master's interface if it names one, and otherwise the first
// address of this host that others can reach.
func ownAddress(iface string) string {
	if ip := net.ParseIP(iface); ip != nil && !ip.IsUnspecified() {
		return iface
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}
