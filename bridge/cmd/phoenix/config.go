package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/agent"
	"phoenix/bridge/decide"
	"phoenix/bridge/queue"
)

// Config is all that an operator may say; see settings for the key of each.
type Config struct {
	Store      string
	SaltConfig string
	InstanceID string
	Address    string
	Admit      string
	IDPattern  string
	IDFrom     string
	Bus        string
	Socket     string
	HTTPListen string
	LogLevel   string

	Audit struct {
		File string
	}
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
		Top     []string
		Pillar  []string
	}
	Heal struct {
		After time.Duration
	}
	DynamoDB struct {
		Region       string
		Endpoint     string
		MinionsTable string
		MastersTable string
		ProofsTable  string
	}
	SQS struct {
		Queues   []string
		Endpoint string
	}
	AutoScaling struct {
		Groups   []string
		Hooks    []string
		Endpoint string
	}
	Agent struct {
		Interval time.Duration
		Splay    time.Duration
		Settle   time.Duration
		Follow   string
		Order    string
		Restart  []string
	}
	Relay struct {
		Listen string
		Jobs   string
	}
	Identity struct {
		Bucket   string
		Key      string
		KMSKey   string
		Region   string
		Endpoint string
		Files    []string
	}
}

// idPatternSQLite lets host names in, and nothing that Salt, a path or a shell
// could take for more than a name.
const idPatternSQLite = `^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`

// idPatternDynamoDB: on AWS a minion bears its instance's id.
const idPatternDynamoDB = `^i-([0-9a-f]{8}|[0-9a-f]{17})$`

// byInstanceID is the id_from of minions that bear their instance's id.
const byInstanceID = "instance-id"

// Values of the key bus.
const (
	busAuto = "auto"
	busOff  = "off"
)

// defaultConfig is what holds where nothing is said.
func defaultConfig() Config {
	var c Config
	c.Store = "sqlite:/var/lib/phoenix/fleet.db"
	c.SaltConfig = "/etc/salt/master"
	c.Admit = string(decide.Bound)
	c.IDFrom = byInstanceID
	c.Bus = busAuto
	c.Socket = "/run/phoenix/bridge.sock"
	c.LogLevel = "info"
	c.Highstate.Enabled = true
	c.Highstate.Function = "state.highstate"
	c.Highstate.Attempts = 3
	c.Highstate.Concurrency = 100
	c.Highstate.Lease = 30 * time.Second
	c.Relay.Jobs = relayOwn
	c.Agent.Interval, c.Agent.Splay = time.Minute, time.Minute
	c.Agent.Settle = 6 * time.Hour
	c.Agent.Order = string(agent.Spread)
	c.Agent.Restart = []string{"systemctl", "restart", "salt-minion"}
	c.DynamoDB.MinionsTable, c.DynamoDB.MastersTable, c.DynamoDB.ProofsTable = "minions", "masters", "proofs"
	c.Identity.Key = "phoenix/identity"
	c.AutoScaling.Hooks = []string{"phoenix-launching", "phoenix-terminating"}
	return c
}

// settings names each key, and what it is for. Flag and variable follow from the
// key: highstate.lease is --highstate-lease and PHOENIX_HIGHSTATE_LEASE.
func (c *Config) settings() []setting {
	return []setting{
		{"store", &c.Store, "where the fleet is remembered: sqlite:PATH, or dynamodb:"},
		{"salt_config", &c.SaltConfig, "the master's own configuration file"},
		{"instance_id", &c.InstanceID, "this master's name in the fleet (default: the instance's id on AWS, else the host's name)"},
		{"address", &c.Address, "the address at which minions reach this master (default: its own, on AWS the private one)"},
		{"admit", &c.Admit, "whose key is let in: listed (the id is in the fleet), bound (and the key is the first it came with) or proven (and its instance wrote that key to the proofs table)"},
		{"id_pattern", &c.IDPattern, "regular expression of the minion ids that may be let in (default: host names; with dynamodb and id_from instance-id: instance ids)"},
		{"id_from", &c.IDFrom, "what a minion's id is: instance-id, or private-dns or tag:KEY of its instance, which EC2 is asked for"},
		{"bus", &c.Bus, "listen to the master's event bus: auto; or off, where the master's reactor tells of its events"},
		{"socket", &c.Socket, "Unix socket of the bridge, for commands on this machine"},
		{"http_listen", &c.HTTPListen, "TCP address of metrics and health, as 127.0.0.1:9180 (default: none)"},
		{"log_level", &c.LogLevel, "debug, info, warn or error"},
		{"audit.file", &c.Audit.File, "the trail of decisions, which minions explain reads (default: audit.log beside the SQLite store, else /var/lib/phoenix/audit.log)"},
		{"highstate.enabled", &c.Highstate.Enabled, "run first highstates"},
		{"highstate.function", &c.Highstate.Function, "what a first highstate is"},
		{"highstate.args", &c.Highstate.Args, "its positional arguments (a YAML list)"},
		{"highstate.kwargs", &c.Highstate.Kwargs, "its keyword arguments (a YAML map)"},
		{"highstate.attempts", &c.Highstate.Attempts, "tries that may fail before it is shown as failed"},
		{"highstate.concurrency", &c.Highstate.Concurrency, "first highstates that this master runs at a time"},
		{"highstate.lease", &c.Highstate.Lease, "a master whose heartbeat stands still for so long has lost its claims"},
		{"ready.command", &c.Ready.Command, "must exit 0 before minions are sent here (a YAML list: the program and its arguments)"},
		{"ready.top", &c.Ready.Top, "files that the master's file server must have by then (a YAML list of SALTENV/PATH, as base/top.sls)"},
		{"ready.pillar", &c.Ready.Pillar, "whose pillar must be rendered without errors by then (a YAML list: the id of a minion, which need not exist, then GRAIN=VALUE)"},
		{"heal.after", &c.Heal.After, "a master that served and has not answered for so long calls its instance unhealthy, if another one is ready and it is not drained: AutoScaling replaces it (0: never)"},
		{"dynamodb.region", &c.DynamoDB.Region, "AWS region of the tables (default: as the AWS command line finds it)"},
		{"dynamodb.endpoint", &c.DynamoDB.Endpoint, "URL of DynamoDB (default: AWS's own for the region)"},
		{"dynamodb.minions_table", &c.DynamoDB.MinionsTable, "name of the table of minions"},
		{"dynamodb.masters_table", &c.DynamoDB.MastersTable, "name of the table of masters"},
		{"dynamodb.proofs_table", &c.DynamoDB.ProofsTable, "name of the table of proofs"},
		{"sqs.queues", &c.SQS.Queues, "queues that AutoScaling's messages come by (a YAML list of names or URLs; masters:NAME for the masters' own)"},
		{"sqs.endpoint", &c.SQS.Endpoint, "URL of SQS (default: AWS's own for the region)"},
		{"autoscaling.groups", &c.AutoScaling.Groups, "Auto Scaling groups of the fleet, compared with it every few minutes (a YAML list; masters:NAME for the masters' own)"},
		{"autoscaling.hooks", &c.AutoScaling.Hooks, "lifecycle hooks that Phoenix ends (a YAML list of names); no other is touched"},
		{"autoscaling.endpoint", &c.AutoScaling.Endpoint, "URL of AutoScaling (default: AWS's own for the region)"},
		{"agent.interval", &c.Agent.Interval, "how often an agent reads the masters while all is well"},
		{"agent.splay", &c.Agent.Splay, "up to so long an agent waits before it restarts a minion that could be served better (at most 3s if its master is gone, 30s if it drains; longer in a fleet of thousands)"},
		{"agent.settle", &c.Agent.Settle, "within so long a minion is restarted whose list changed, and whose masters serve it"},
		{"agent.follow", &c.Agent.Follow, "how many masters a minion is connected to at once: a number, or all (default: 1, which fails over; a minion that follows several by its own configuration is left alone until this is set)"},
		{"agent.order", &c.Agent.Order, "spread (minions share the masters) or sorted (all prefer the lowest address)"},
		{"agent.restart", &c.Agent.Restart, "the command that restarts the minion (a YAML list: the program and its arguments)"},
		{"relay.listen", &c.Relay.Listen, "TCP address of the relay, by which commands on one master reach the minions of all, as :4507 (default: none)"},
		{"relay.jobs", &c.Relay.Jobs, "whose returns come to this master's job cache: own (of its own jobs), or all (of every master's)"},
		{"identity.bucket", &c.Identity.Bucket, "S3 bucket by which the masters share their key pair"},
		{"identity.key", &c.Identity.Key, "key of the object in it"},
		{"identity.kms_key", &c.Identity.KMSKey, "id or ARN of the KMS key that encrypts it (default: AWS's own for S3)"},
		{"identity.region", &c.Identity.Region, "AWS region of the bucket (default: as the AWS command line finds it)"},
		{"identity.endpoint", &c.Identity.Endpoint, "URL of S3 (default: AWS's own for the region)"},
		{"identity.files", &c.Identity.Files, "what else the masters share (a YAML list of files and folders: relative to pki_dir, or absolute)"},
	}
}

// items gives the queues and groups, which Validate has read before.
func (c *Config) items() (queues, groups []queue.Item) {
	for _, text := range c.SQS.Queues {
		item, _ := queue.ParseItem(text)
		queues = append(queues, item)
	}
	for _, text := range c.AutoScaling.Groups {
		item, _ := queue.ParseItem(text)
		groups = append(groups, item)
	}
	return queues, groups
}

// onAWS says whether this master's name must be its instance's: messages call it so.
func (c *Config) onAWS() bool {
	return c.onDynamoDB() || len(c.SQS.Queues)+len(c.AutoScaling.Groups) > 0
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
	if c.Audit.File == "" {
		c.Audit.File = filepath.Join("/var/lib/phoenix", auditFile)
		if path, ok := strings.CutPrefix(c.Store, "sqlite:"); ok {
			c.Audit.File = filepath.Join(filepath.Dir(path), auditFile)
		}
	}
	switch a := decide.Admit(c.Admit); {
	case a != decide.Listed && a != decide.Bound && a != decide.Proven:
		fault("admit", "%q is none of listed, bound and proven", c.Admit)
	case a == decide.Proven && !c.onDynamoDB():
		fault("admit", "proven needs store dynamodb:, whose table of proofs IAM guards")
	}
	if _, err := queue.NewNames(c.IDFrom, nil, nil); err != nil {
		fault("id_from", "%v", err)
	}
	if c.IDPattern == "" {
		c.IDPattern = idPatternSQLite
		if c.onDynamoDB() && c.IDFrom == byInstanceID {
			c.IDPattern = idPatternDynamoDB
		}
	}
	if _, _, err := net.SplitHostPort(c.HTTPListen); c.HTTPListen != "" && err != nil {
		fault("http_listen", "%q is not HOST:PORT, or :PORT for each address of this machine", c.HTTPListen)
	}
	if _, err := regexp.Compile(c.IDPattern); err != nil {
		fault("id_pattern", "%v", err)
	}
	for key, items := range map[string][]string{"sqs.queues": c.SQS.Queues, "autoscaling.groups": c.AutoScaling.Groups} {
		for _, text := range items {
			if _, err := queue.ParseItem(text); err != nil {
				fault(key, "%v", err)
			}
		}
	}
	if slices.Contains(c.AutoScaling.Hooks, "") {
		fault("autoscaling.hooks", "a name is empty")
	}
	if c.Bus != busAuto && c.Bus != busOff {
		fault("bus", "%q is neither auto nor off", c.Bus)
	}
	c.checkAgent(fault)
	c.checkRelay(fault)
	if _, err := logLevel(c.LogLevel); err != nil {
		fault("log_level", "%v", err)
	}
	for _, item := range c.Ready.Top {
		if env, path, ok := strings.Cut(item, "/"); !ok || env == "" || path == "" {
			fault("ready.top", "%q is not SALTENV/PATH", item)
		}
	}
	if (len(c.Ready.Top) > 0 || len(c.Ready.Pillar) > 0) && filepath.Base(c.SaltConfig) != "master" {
		fault("salt_config", "ready.top and ready.pillar need one that is called master, as salt-run does")
	}
	if c.Heal.After != 0 && (c.Heal.After < minHeal || c.Heal.After > 24*time.Hour) {
		fault("heal.after", "%v is neither 0 nor between %v and 24h", c.Heal.After, minHeal)
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

// auditFile is the trail's name, where its folder follows from the store.
const auditFile = "audit.log"

// minLease: a master beats every 5 s, and stops publishing 10 s before its lease
// could be seen to have run out.
const minLease = 20 * time.Second

// minHeal: a restart of salt-master takes some 10 s, and a minute on a machine
// that is busy.
const minHeal = time.Minute

// validID gives the check of minion ids. Whatever the operator's pattern says,
// an id that Salt takes for a glob or a list, or that leaves a folder, is refused.
func (c *Config) validID() func(string) bool {
	pattern := regexp.MustCompile(c.IDPattern)
	return func(id string) bool {
		return id != "" && len(id) <= 255 && id[0] != '.' && !strings.ContainsAny(id, "*?[]{}()|^$+,;/\\ \"'`<>&!") &&
			!strings.ContainsFunc(id, func(r rune) bool { return r < 0x21 || r > 0x7e }) && pattern.MatchString(id)
	}
}
