package config

import (
	"time"

	"phoenix/bridge/agent"
	"phoenix/bridge/autoscaling"
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

// IDPatternDynamoDB: on AWS a minion bears its instance's id.
const IDPatternDynamoDB = `^i-([0-9a-f]{8}|[0-9a-f]{17})$`

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
		{"store", "where the fleet is remembered: sqlite:PATH, or dynamodb:", &c.Store},
		{"salt_config", "the master's own configuration file", &c.SaltConfig},
		{"instance_id", "this master's name in the fleet (default: the instance's id on AWS, else the host's name)", &c.InstanceID},
		{"address", "the address at which minions reach this master (default: its own, on AWS the private one)", &c.Address},
		{"admit", "whose key is let in: listed (the id is in the fleet), bound (and the key is the first it came with) or proven (and its instance wrote that key to the proofs table)", &c.Admit},
		{"id_pattern", "regular expression of the minion ids that may be let in (default: host names; with dynamodb and id_from instance-id: instance ids)", &c.IDPattern},
		{"id_from", "what a minion's id is: instance-id, or private-dns or tag:KEY of its instance, which EC2 is asked for", &c.IDFrom},
		{"bus", "listen to the master's event bus: auto; or off, where the master's reactor tells of its events", &c.Bus},
		{"socket", "Unix socket of the bridge, for commands on this machine", &c.Socket},
		{"http_listen", "TCP address of metrics and health, as 127.0.0.1:9180 (default: none)", &c.HTTPListen},
		{"ui", "serve a read-only page for browsers at /ui/ of http_listen: whoever reaches that address sees the fleet", &c.UI},
		{"log_level", "debug, info, warn or error", &c.LogLevel},
		{"audit.file", "the trail of decisions, which minions explain reads (default: audit.log beside the SQLite store, else /var/lib/phoenix/audit.log)", &c.Audit.File},
		{"highstate.enabled", "run first highstates", &c.Highstate.Enabled},
		{"highstate.function", "what a first highstate is", &c.Highstate.Function},
		{"highstate.args", "its positional arguments (a YAML list)", &c.Highstate.Args},
		{"highstate.kwargs", "its keyword arguments (a YAML map); test: false is added where it is not set, and test: null leaves it to the minion", &c.Highstate.Kwargs},
		{"highstate.attempts", "tries that may fail before it is shown as failed", &c.Highstate.Attempts},
		{"highstate.concurrency", "first highstates that this master runs at a time", &c.Highstate.Concurrency},
		{"rebind.limit", "how many keys of rebuilt machines this master's bridge binds in place of others within 24 hours without being asked (0: none; see keys accept --rebind)", &c.Rebind.Limit},
		{"highstate.lease", "a master whose heartbeat stands still for so long has lost its claims", &c.Highstate.Lease},
		{"ready.command", "must exit 0 before minions are sent here (a YAML list: the program and its arguments)", &c.Ready.Command},
		{"ready.top", "files that the master's file server must have by then (a YAML list of SALTENV/PATH, as base/top.sls)", &c.Ready.Top},
		{"ready.pillar", "whose pillar must be rendered without errors by then (a YAML list: the id of a minion, which need not exist, then GRAIN=VALUE)", &c.Ready.Pillar},
		{"heal.after", "a master that served and has not answered for so long calls its instance unhealthy, if another one is ready and it is not drained: AutoScaling replaces it (0: never)", &c.Heal.After},
		{"dynamodb.region", "AWS region of the tables (default: as the AWS command line finds it)", &c.DynamoDB.Region},
		{"dynamodb.endpoint", "URL of DynamoDB (default: AWS's own for the region)", &c.DynamoDB.Endpoint},
		{"dynamodb.minions_table", "name of the table of minions", &c.DynamoDB.MinionsTable},
		{"dynamodb.masters_table", "name of the table of masters", &c.DynamoDB.MastersTable},
		{"dynamodb.proofs_table", "name of the table of proofs", &c.DynamoDB.ProofsTable},
		{"sqs.queues", "queues that AutoScaling's messages come by (a YAML list of names or URLs; masters:NAME for the masters' own)", &c.SQS.Queues},
		{"sqs.endpoint", "URL of SQS (default: AWS's own for the region)", &c.SQS.Endpoint},
		{"autoscaling.groups", "Auto Scaling groups of the fleet, compared with it every few minutes (a YAML list; masters:NAME for the masters' own)", &c.AutoScaling.Groups},
		{"autoscaling.hooks", "lifecycle hooks that Phoenix ends (a YAML list of names); no other is touched", &c.AutoScaling.Hooks},
		{"autoscaling.launch_failures", "after so many failed first highstates of a group in a row within 24 hours, further failed instances are kept instead of replaced (0: each is replaced)", &c.AutoScaling.LaunchFailures},
		{"autoscaling.endpoint", "URL of AutoScaling (default: AWS's own for the region)", &c.AutoScaling.Endpoint},
		{"cloudwatch.namespace", "namespace of the metrics that are published to CloudWatch once a minute (default: none are)", &c.CloudWatch.Namespace},
		{"cloudwatch.endpoint", "URL of CloudWatch (default: AWS's own for the region)", &c.CloudWatch.Endpoint},
		{"agent.interval", "how often an agent reads the masters while all is well", &c.Agent.Interval},
		{"agent.splay", "up to so long an agent waits before it restarts a minion that could be served better (at most 3s if its master is gone, 30s if it drains; longer in a fleet of thousands)", &c.Agent.Splay},
		{"agent.settle", "within so long a minion is restarted whose list changed, and whose masters serve it", &c.Agent.Settle},
		{"agent.follow", "how many masters a minion is connected to at once: a number, or all (default: 1, which fails over; a minion that follows several by its own configuration is left alone until this is set)", &c.Agent.Follow},
		{"agent.order", "spread (minions share the masters) or sorted (all prefer the lowest address)", &c.Agent.Order},
		{"agent.restart", "the command that restarts the minion (a YAML list: the program and its arguments)", &c.Agent.Restart},
		{"relay.listen", "TCP address of the relay, by which commands on one master reach the minions of all, as :4507 (default: none)", &c.Relay.Listen},
		{"relay.jobs", "whose returns come to this master's job cache: own (of its own jobs), or all (of every master's)", &c.Relay.Jobs},
		{"identity.bucket", "S3 bucket by which the masters share their key pair", &c.Identity.Bucket},
		{"identity.key", "key of the object in it", &c.Identity.Key},
		{"identity.kms_key", "id or ARN of the KMS key that encrypts it (default: AWS's own for S3)", &c.Identity.KMSKey},
		{"identity.region", "AWS region of the bucket (default: as the AWS command line finds it)", &c.Identity.Region},
		{"identity.endpoint", "URL of S3 (default: AWS's own for the region)", &c.Identity.Endpoint},
		{"identity.files", "what else the masters share (a YAML list of files and folders: relative to pki_dir, or absolute)", &c.Identity.Files},
	}
}

// items gives the queues and groups, which Validate has read before.
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

// onAWS says whether this master's name must be its instance's: messages call it so.
func (c *Config) OnAWS() bool {
	return c.OnDynamoDB() || len(c.SQS.Queues)+len(c.AutoScaling.Groups) > 0
}

// onDynamoDB says whether the fleet is remembered in DynamoDB.
func (c *Config) OnDynamoDB() bool { return c.Store == "dynamodb:" }
