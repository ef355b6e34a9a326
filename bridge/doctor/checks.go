package doctor

import "slices"

// Where a check looks.
const (
	OnMaster   = "master"
	OnMinion   = "minion"
	WithConfig = "with a configuration"
)

// Check is one thing that doctor examines. docs/doctor.md has all of them.
type Check struct {
	Name  string
	Where string
	Looks string // what it examines
	Why   string // why a finding matters
}

// Checks returns all checks, in the order in which findings are listed.
func Checks() []Check { return checks }

func find(name string) Check {
	i := slices.IndexFunc(checks, func(c Check) bool { return c.Name == name })
	if i < 0 {
		panic("no check " + name + " in checks.go") // a test makes each finding there is
	}
	return checks[i]
}

var checks = []Check{
	{"salt-master", OnMaster, "version, configuration and user of the master, and whether it runs",
		"without a running master no minion is served, and there are no keys to decide on"},
	{"salt-config", OnMaster, "files of the configuration that Salt leaves out because of a fault, `transport`, `cluster_id`",
		"settings in a file that is left out have no effect; Phoenix works with a master over `transport` zeromq or tcp (without `ssl`), and not in Salt's own cluster mode"},
	{"event-bus", OnMaster, "whether the event bus is there and can be read",
		"a bridge receives auth requests from it; without it, it finds them by comparing, every two minutes"},
	{"request-port", OnMaster, "whether the master listens on `ret_port`",
		"a bridge accepts and deletes keys over it"},
	{"auth-events", OnMaster, "`auth_events`",
		"a bridge then finds auth requests by comparing alone, every two minutes"},
	{"key-store", OnMaster, "`keys.cache_driver`, whether the keys can be read, and how many there are",
		"Phoenix works with keys in files (localfs_key), as root or as the master's user"},
	{"auto-accept", OnMaster, "`auto_accept`",
		"Salt itself accepts every key: no one decides which minions are accepted"},
	{"open-mode", OnMaster, "`open_mode`",
		"Salt accepts any key for any id and replaces the known one: whoever reaches the master can act as any minion"},
	{"autosign-file", OnMaster, "`autosign_file`, and the patterns in it",
		"Salt itself accepts the keys of ids that match, past Phoenix"},
	{"autosign-grains", OnMaster, "`autosign_grains_dir`, and what is in it",
		"Salt itself accepts keys by what a minion reports about itself, past Phoenix"},
	{"autosign-folder", OnMaster, "`pki_dir/minions_autosign`",
		"Salt itself accepts the next key of each id there, past Phoenix"},
	{"autoreject-file", OnMaster, "`autoreject_file`, and the patterns in it",
		"Salt rejects the keys of ids that match; Phoenix does not change a rejected key, so these minions are never accepted"},
	{"permissive-pki", OnMaster, "`permissive_pki_access`",
		"members of the group of the autosign files decide which minions Salt accepts"},
	{"reactor", OnMaster, "reactors on any tag: SLS, Jinja, `#!py`, files of the file server, and the runners and orchestrations that they call",
		"a reactor that accepts keys or runs highstates does so beside Phoenix: past its rules, or a second time"},
	{"engines", OnMaster, "`engines`: `sqs_events`, `stalekey`, `thorium` with its files, and engines of your own",
		"an engine that accepts or deletes keys does so past Phoenix; a queue has one reader for each message, so Phoenix never receives what an engine reads"},
	{"master-schedule", OnMaster, "the master's own `schedule`",
		"it runs runners and orchestrations that accept keys or run states beside Phoenix"},
	{"orchestration", OnMaster, "state files of the file server that accept or delete keys",
		"whoever runs one, or a reactor that renders its name, changes keys past Phoenix"},
	{"cron", OnMaster, "crontabs, cron's folders and systemd's units of this machine that call `salt-key` or run states, and the scripts that they name",
		"they accept or delete keys and run highstates beside Phoenix"},
	{"old-runners", OnMaster, "runners named as Phoenix's in `extension_modules` and `runner_dirs` that are others",
		"if two have the same name, Salt uses the first that it finds: the old ones accept keys and run highstates by themselves"},
	{"job-cache", OnMaster, "`master_job_cache`, `ext_job_cache`, and who owns the folders of the job cache",
		"a master publishes no job while its job cache fails; a cache that generates its own jids breaks the rule of one jid for each first highstate"},
	{"publisher-blacklist", OnMaster, "`publisher_acl_blacklist`",
		"the master refuses the jobs of first highstates, or the questions after them"},
	{"shared-folders", OnMaster, "whether `cachedir`, `sock_dir` and `pki_dir` are on a network file system, or are those of another master on this machine, too",
		"two masters with one cachedir change each other's root key and job cache; with one pki_dir each sees what the other does to keys"},
	{"shared-key", OnMaster, "keys that several ids have",
		"whoever has the private key can act as each of these minions: most often an image was made of a machine with its keys (/etc/salt/pki/minion)"},
	{"key-not-rsa", OnMaster, "keys that are no RSA public key, or cannot be read",
		"Phoenix identifies a key by the digest of its RSA public key, and never accepts another"},
	{"odd-keys", OnMaster, "entries of the key store that are links, folders, empty files, or names that are no ids",
		"Salt 3006 and 3007 follow a link and 3008 does not, so such a minion is served by one and not by the other; an empty key keeps its minion out"},
	{"id-pattern", OnMaster, "ids that do not match `id_pattern`",
		"Phoenix accepts no such id, and never changes its keys"},
	{"id-case", OnMaster, "ids that differ in case alone",
		"Salt regards them as two minions, but most often they are one machine: a change of one does not affect the other"},
	{"hidden-key", OnMaster, "ids with a pending or a rejected key beside the accepted one",
		"Salt 3008 reads rejected, pending, accepted, in that order: the accepted minion is not served"},
	{"rejected-keys", OnMaster, "rejected keys",
		"a minion whose key was rejected is refused, and exits, until the key is deleted; Phoenix does not delete it"},
	{"denied-keys", OnMaster, "denied keys",
		"another key than the accepted one asked for these ids: a machine that was rebuilt, two machines with one name, or an impostor"},
	{"what-phoenix-would-do", OnMaster, "what a bridge would do about the keys that are here now",
		"keys that are already accepted are foreign to Phoenix and never changed, until you adopt them"},

	{"salt-minion", OnMinion, "version, configuration and id of the minion, and whether it runs",
		"a minion that does not run has no first highstate"},
	{"minion-config", OnMinion, "files of the configuration that Salt leaves out because of a fault",
		"settings in a file that is left out have no effect"},
	{"cache-jobs", OnMinion, "`cache_jobs`",
		"a return is sent to one master and is lost with it: then the minion's own copy is the only record of its first highstate"},
	{"jid-queue", OnMinion, "`minion_jid_queue_hwm`",
		"a job that is sent again, for example after a failure, is dropped only while the minion remembers its id: after that many other jobs it runs once more"},
	{"test-mode", OnMinion, "`test`",
		"every state run is a dry run that changes nothing and returns success. A bridge runs first highstates with `test=False`, unless `highstate.kwargs` sets it"},
	{"file-client", OnMinion, "`file_client`",
		"a first highstate applies what is on the machine, most often nothing, and counts as a success"},
	{"modules", OnMinion, "`disable_modules` and `whitelist_modules`",
		"a minion without the functions of Phoenix's jobs (state, test, saltutil, config) fails its first highstate, or is never found to have ended it"},
	{"startup-states", OnMinion, "`startup_states`",
		"the minion runs states at each of its starts, beside its first highstate: one of the two is refused as busy, or both run"},
	{"schedule", OnMinion, "scheduled highstates, in the configuration, in `_schedule.conf` and in crontabs",
		"one that runs at the start of the minion runs beside its first highstate: one of the two is refused as busy, or both run"},
	{"masters", OnMinion, "`master` and `master_type`",
		"a minion with one master has none when that one dies; one with several masters and no failover is connected to all"},
	{"master-order", OnMinion, "`random_master`, `master_shuffle`, `master_failback`",
		"the agent sorts the list so that the masters share the load and a draining one is last; with these settings the minion uses another order"},
	{"master-names", OnMinion, "whether each master of the list has an address",
		"a master whose name cannot be resolved delays each start, and cannot serve when the others die"},
	{"master-ports", OnMinion, "whether each master of the list answers on `master_port` and `publish_port`",
		"a minion that reaches 4506 and not 4505 is accepted and never receives a job"},
	{"alive-interval", OnMinion, "`master_alive_interval`",
		"with 0, Salt's default, the minion never checks whether its master is alive, so it never fails over"},
	{"keep-alive", OnMinion, "`tcp_keepalive` and its times",
		"a master whose packets vanish stays connected until TCP gives up: 16 minutes with Salt's defaults"},
	{"rejected-retry", OnMinion, "`rejected_retry`",
		"a minion that is denied once exits, and does not run until somebody starts it"},
	{"retry-dns", OnMinion, "`retry_dns`",
		"failover needs 0: otherwise Salt waits for the name of a master that is gone, and never tries the next"},
	{"unit", OnMinion, "`KillMode` and `TimeoutStopSec` of the minion's systemd unit",
		"an agent restarts the minion when its masters change; with KillMode=control-group or mixed systemd then also kills its jobs, including a highstate, and with a long TimeoutStopSec the minion is away for that long"},
	{"drop-in", OnMinion, "the agent's `99-phoenix.conf`, and whether another file changes what it says",
		"it shows the minion which masters are alive"},
	{"agent", OnMinion, "whether an agent runs where one has written the list of masters",
		"without it the list stays as it is: the minion is left with masters that are gone, and does not learn of new ones"},
	{"alive-schedule", OnMinion, "`__master_alive_` jobs of masters that are not on the list, in `_schedule.conf`",
		"Salt does not remove them: each still checks a master that is gone, and makes the minion fail over"},
	{"master-key", OnMinion, "`minion_master.pub`, the key that the minion trusts",
		"a master with another key is refused; an agent changes nothing until it sees a master with this one"},

	{"configuration", WithConfig, "Phoenix's own configuration",
		"without one, only Salt is examined"},
	{"bridge", WithConfig, "whether a bridge answers on its socket, and what it says",
		"without a bridge no key is accepted or deleted by Phoenix on this master"},
	{"relay", WithConfig, "whether the bridge's relay reads the master's jobs and reaches the other masters (`relay.listen`)",
		"a command reaches only the minions of masters that the relay reaches"},
	{"removed-keys", WithConfig, "accepted keys that were deleted on this master by hand (`salt-key -d`), as the bridge says",
		"this master does not serve these minions; Phoenix does not write a key again that an administrator has deleted"},
	{"store", WithConfig, "whether the store can be reached and read",
		"without its store a bridge starts nothing"},
	{"store-rows", WithConfig, "rows of the store that cannot be decoded",
		"nothing happens for those ids until somebody corrects or deletes the rows"},
	{"tables", WithConfig, "DynamoDB's tables, their keys, the index by-status, and TTL",
		"terminations are found by the index; without TTL rows stay for good"},
	{"queues", WithConfig, "whether each of `sqs.queues` can be reached",
		"messages of launches and terminations arrive in them"},
	{"groups", WithConfig, "whether AutoScaling knows each of `autoscaling.groups`",
		"a comparison with the groups finds what no message reported"},
	{"clock", WithConfig, "this machine's clock against AWS's",
		"AWS refuses requests that are five minutes off"},
	{"permissions", WithConfig, "what IAM denies, by calls that change nothing",
		"a bridge that is denied one of these stops at it when it is needed"},
	{"proof", WithConfig, "whether this instance has written the digest of its minion's key",
		"with admit: proven no key is accepted without it"},
	{"fleet-key", WithConfig, "this master's key, or the one that the minion trusts, against the masters of the fleet and the key that they share in S3",
		"minions that trust one key refuse a master with another"},
	{"follow", WithConfig, "how many minions are connected to how many masters, as the masters' rows say, against `agent.follow`",
		"a minion with only one master left has none when that one dies"},
}

// whole is an option that is a number; Salt's default otherwise.
func whole(options map[string]any, name string, otherwise int) int {
	if n, ok := options[name].(int); ok {
		return n
	}
	return otherwise
}
