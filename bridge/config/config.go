package config

import (
	"time"

	"phoenix/bridge/agent"
	"phoenix/bridge/autoscaling"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
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
	UI         bool
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
		Breaker     string
	}
	Rebind struct {
		Limit int
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
		Groups         []string
		Hooks          []string
		LaunchFailures int
		Endpoint       string
	}
	CloudWatch struct {
		Namespace string
		Endpoint  string
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

// IDPatternSQLite lets host names in, and nothing that Salt, a path or a shell
// could take for more than a name.
const IDPatternSQLite = `^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`

// IDPatternDynamoDB is the pattern of instance ids: on AWS a minion has its instance's id.
const IDPatternDynamoDB = fleet.InstanceIDPattern

// ByInstanceID is the id_from of minions that bear their instance's id.
const ByInstanceID = "instance-id"

// Values of the key bus.
const (
	BusAuto = "auto"
	BusOff  = "off"
)

// Default returns the configuration that holds where nothing is set.
func Default() Config {
	var c Config
	c.Store = "sqlite:/var/lib/phoenix/fleet.db"
	c.SaltConfig = "/etc/salt/master"
	c.Admit = string(decide.Bound)
	c.IDFrom = ByInstanceID
	c.Bus = BusAuto
	c.Socket = "/run/phoenix/bridge.sock"
	c.LogLevel = "info"
	c.Highstate.Enabled = true
	c.Highstate.Function = "state.highstate"
	c.Highstate.Attempts = 3
	c.Highstate.Concurrency = 100
	c.Highstate.Lease = 30 * time.Second
	c.Highstate.Breaker = "5/10"
	c.Relay.Jobs = RelayOwn
	c.Agent.Interval, c.Agent.Splay = time.Minute, time.Minute
	c.Agent.Settle = 6 * time.Hour
	c.Agent.Order = string(agent.Spread)
	c.Agent.Restart = []string{"systemctl", "restart", "salt-minion"}
	c.DynamoDB.MinionsTable, c.DynamoDB.MastersTable, c.DynamoDB.ProofsTable = "minions", "masters", "proofs"
	c.Identity.Key = "phoenix/identity"
	c.AutoScaling.Hooks = []string{"phoenix-launching", "phoenix-terminating"}
	return c
}

// Settings lists each key, and what it is for. Flag and variable follow from the
// key: highstate.lease is --highstate-lease and PHOENIX_HIGHSTATE_LEASE.
func (c *Config) Settings() []Setting {
	return []Setting{
		{"store", "where the fleet is stored: sqlite:PATH, or dynamodb:", &c.Store},
		{"salt_config", "the master's own configuration file", &c.SaltConfig},
		{"instance_id", "this master's name in the fleet (default: the instance's id on AWS, else the host's name)",
			&c.InstanceID},
		{"address", "the address at which minions reach this master (default: its own, on AWS the private one)",
			&c.Address},
		{"admit", "which keys are accepted: listed (any key of an id in the fleet), bound (only the first key that is sent for such an id) or proven (only the key that its instance wrote to the proofs table)", &c.Admit},
		{"id_pattern", "regular expression of the minion ids whose keys may be accepted (default: host names; with dynamodb and id_from instance-id: instance ids)", &c.IDPattern},
		{"id_from", "what a minion's id is: instance-id; private-dns or tag:KEY of its instance, for which the bridge asks EC2; or regex:EXPRESSION, whose only group matches the instance id within the minion id", &c.IDFrom},
		{"bus", "whether to read the master's event bus: auto; or off, if the master's reactor sends its events",
			&c.Bus},
		{"socket", "Unix socket of the bridge, for commands on this machine", &c.Socket},
		{"http_listen", "TCP address of metrics and health, such as 127.0.0.1:9180 (default: none)", &c.HTTPListen},
		{"ui", "serve a read-only page for browsers at /ui/ of http_listen: everybody who reaches that address can see the fleet", &c.UI},
		{"log_level", "debug, info, warn or error", &c.LogLevel},
		{"audit.file", "the file of decisions, which minions explain reads (default: audit.log beside the SQLite store, else /var/lib/phoenix/audit.log)", &c.Audit.File},
		{"highstate.enabled", "run first highstates", &c.Highstate.Enabled},
		{"highstate.function", "the function that is run as the first highstate", &c.Highstate.Function},
		{"highstate.args", "its positional arguments (a YAML list)", &c.Highstate.Args},
		{"highstate.kwargs", "its keyword arguments (a YAML map); test: false is added if it is not set, and test: null leaves it to the minion", &c.Highstate.Kwargs},
		{"highstate.attempts", "how many times a first highstate is tried in all, if it fails", &c.Highstate.Attempts},
		{"highstate.concurrency", "first highstates that this master runs at the same time", &c.Highstate.Concurrency},
		{"highstate.lease", "time without a heartbeat after which a master loses its claims", &c.Highstate.Lease},
		{"rebind.limit", "how many keys of rebuilt machines this master's bridge accepts by itself within 24 hours, each instead of the bound key (0: none; see keys accept --rebind)", &c.Rebind.Limit},
		{"highstate.breaker", "FAILED/LAST: when the first highstates of FAILED of the last LAST minions failed, over all masters, new ones wait for phoenix highstate resume (0: never)", &c.Highstate.Breaker},
		{"ready.command", "must exit 0 before minions are sent here (a YAML list: the program and its arguments)",
			&c.Ready.Command},
		{"ready.top", "files that the master's file server must have before that (a YAML list of SALTENV/PATH, such as base/top.sls)", &c.Ready.Top},
		{"ready.pillar", "minion whose pillar must render without errors before that (a YAML list: the id, which need not exist, then GRAIN=VALUE)", &c.Ready.Pillar},
		{"heal.after", "time without an answer after which a master that served before reports its instance as unhealthy, so that AutoScaling replaces it; only if another master is ready and this one is not draining (0: never)", &c.Heal.After},
		{"dynamodb.region", "AWS region of the tables (default: as the AWS command line finds it)", &c.DynamoDB.Region},
		{"dynamodb.endpoint", "URL of DynamoDB (default: AWS's own for the region)", &c.DynamoDB.Endpoint},
		{"dynamodb.minions_table", "name of the table of minions", &c.DynamoDB.MinionsTable},
		{"dynamodb.masters_table", "name of the table of masters", &c.DynamoDB.MastersTable},
		{"dynamodb.proofs_table", "name of the table of proofs", &c.DynamoDB.ProofsTable},
		{"sqs.queues", "queues with AutoScaling's messages (a YAML list of names or URLs; masters:NAME for the masters' own)", &c.SQS.Queues},
		{"sqs.endpoint", "URL of SQS (default: AWS's own for the region)", &c.SQS.Endpoint},
		{"autoscaling.groups", "Auto Scaling groups of the fleet, compared with the store every few minutes (a YAML list; masters:NAME for the masters' own)", &c.AutoScaling.Groups},
		{"autoscaling.hooks", "lifecycle hooks that Phoenix completes (a YAML list of names); it never completes others", &c.AutoScaling.Hooks},
		{"autoscaling.launch_failures",
			"number of failed first highstates of a group in a row, within 24 hours, after which further failed instances are kept instead of replaced (0: each is replaced)", &c.AutoScaling.LaunchFailures},
		{"autoscaling.endpoint", "URL of AutoScaling (default: AWS's own for the region)", &c.AutoScaling.Endpoint},
		{"cloudwatch.namespace", "namespace of the metrics that are published to CloudWatch once a minute (default: publish none)", &c.CloudWatch.Namespace},
		{"cloudwatch.endpoint", "URL of CloudWatch (default: AWS's own for the region)", &c.CloudWatch.Endpoint},
		{"agent.interval", "how often an agent reads the masters while its master answers", &c.Agent.Interval},
		{"agent.splay", "longest random wait before the restart of a minion that another master serves better (at most 3s if its master is gone, 30s if it drains; longer in a fleet of thousands)", &c.Agent.Splay},
		{"agent.settle", "longest random wait before the restart of a minion whose list changed while its masters serve it", &c.Agent.Settle},
		{"agent.follow", "how many masters a minion is connected to at once: a number, or all (default: 1, which fails over; the agent does not change a minion that follows several by its own configuration until this is set)", &c.Agent.Follow},
		{"agent.order", "spread (minions share the masters) or sorted (all prefer the lowest address)", &c.Agent.Order},
		{"agent.restart", "the command that restarts the minion (a YAML list: the program and its arguments)",
			&c.Agent.Restart},
		{"relay.listen", "TCP address of the relay, through which commands on one master reach the minions of all, such as :4507 (default: none)", &c.Relay.Listen},
		{"relay.jobs", "returns that are written to this master's job cache: own (of its own jobs), or all (of every master's)", &c.Relay.Jobs},
		{"identity.bucket", "S3 bucket through which the masters share their key pair", &c.Identity.Bucket},
		{"identity.key", "key of the object in it", &c.Identity.Key},
		{"identity.kms_key", "id or ARN of the KMS key that encrypts it (default: AWS's own for S3)",
			&c.Identity.KMSKey},
		{"identity.region", "AWS region of the bucket (default: as the AWS command line finds it)", &c.Identity.Region},
		{"identity.endpoint", "URL of S3 (default: AWS's own for the region)", &c.Identity.Endpoint},
		{"identity.files", "what else the masters share (a YAML list of files and folders: relative to pki_dir, or absolute)", &c.Identity.Files},
	}
}

// Items returns the queues and groups, which Validate has read before.
func (c *Config) Items() (queues, groups []autoscaling.Item) {
	for _, text := range c.SQS.Queues {
		item, _ := autoscaling.ParseItem(text)
		queues = append(queues, item)
	}
	for _, text := range c.AutoScaling.Groups {
		item, _ := autoscaling.ParseItem(text)
		groups = append(groups, item)
	}
	return queues, groups
}

// OnAWS reports whether this master's name must be its instance's: messages call it so.
func (c *Config) OnAWS() bool {
	return c.OnDynamoDB() || len(c.SQS.Queues)+len(c.AutoScaling.Groups) > 0
}

// OnDynamoDB reports whether the fleet is remembered in DynamoDB.
func (c *Config) OnDynamoDB() bool { return c.Store == "dynamodb:" }
