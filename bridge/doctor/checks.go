package doctor

import "slices"

// Where a check looks.
const (
	OnMaster   = "master"
	OnMinion   = "minion"
	WithConfig = "with a configuration"
)

// Check is one thing that doctor looks at. docs/doctor.md has them all.
type Check struct {
	Name  string
	Where string
	Looks string // at what
	Why   string // a finding matters
}

// Checks are all there are, in the order in which they are told.
func Checks() []Check { return checks }

func find(name string) Check {
	i := slices.IndexFunc(checks, func(c Check) bool { return c.Name == name })
	if i < 0 {
		panic("no check " + name) // a test makes each finding there is
	}
	return checks[i]
}

var checks = []Check{
	{"salt-master", OnMaster, "version, configuration and user of the master, and whether it runs",
		"without a running master there are no keys to decide on"},
	{"salt-config", OnMaster, "files of the configuration that Salt leaves out because of a fault, `transport`, `cluster_id`",
		"what stands in a file that is left out does not hold; Phoenix drives a master over ZeroMQ, and not in Salt's own cluster mode"},
	{"event-bus", OnMaster, "whether the event bus is there, and may be read",
		"a bridge hears of knocks there; without it it finds them by comparing, every two minutes"},
	{"request-port", OnMaster, "whether the master listens on `ret_port`",
		"a bridge accepts and deletes keys over it"},
	{"key-store", OnMaster, "`keys.cache_driver`, whether the keys can be read, and how many there are",
		"Phoenix works with keys in files (localfs_key), as root or as the master's user"},
	{"auto-accept", OnMaster, "`auto_accept`",
		"Salt itself accepts every key that knocks: nobody decides whom to let in"},
	{"open-mode", OnMaster, "`open_mode`",
		"Salt takes any key for any id, in place of the one it has: whoever reaches the master is any minion he likes"},
	{"autosign-file", OnMaster, "`autosign_file`, and the patterns in it",
		"Salt itself accepts the keys of ids that match, past Phoenix"},
	{"autosign-grains", OnMaster, "`autosign_grains_dir`, and what is in it",
		"Salt itself accepts keys by what a minion says of itself, past Phoenix"},
	{"autosign-folder", OnMaster, "`pki_dir/minions_autosign`",
		"Salt itself accepts the next key of each id there, past Phoenix"},
	{"autoreject-file", OnMaster, "`autoreject_file`, and the patterns in it",
		"Salt rejects the keys of ids that match; Phoenix leaves a rejected key as it is, so these never come in"},
	{"permissive-pki", OnMaster, "`permissive_pki_access`",
		"who is in the group of the signing files decides whom Salt lets in"},
	{"reactor", OnMaster, "reactions to `salt/auth`, `salt/key` and `salt/minion/*/start`, and what the files call",
		"a reactor that accepts keys or runs highstates does so beside Phoenix: past its rules, or a second time"},
	{"old-runners", OnMaster, "runners named as ours in `extension_modules` and `runner_dirs` that are others",
		"of two with one name Salt takes the first that it finds: the old ones accept keys and run highstates by themselves"},
	{"shared-key", OnMaster, "keys that several ids have",
		"who has the private half is each of these minions: most often an image was made of a machine with its keys (/etc/salt/pki/minion)"},
	{"key-not-rsa", OnMaster, "keys that are no RSA public key, or cannot be read",
		"Phoenix knows a key by the digest of its RSA public key, and never accepts another"},
	{"id-pattern", OnMaster, "ids that do not match `id_pattern`",
		"Phoenix lets no such id in, and never touches its keys"},
	{"hidden-key", OnMaster, "ids with a pending or a rejected key beside the accepted one",
		"Salt 3008 looks at rejected, pending, accepted, in that order: the minion that was let in is outside"},
	{"rejected-keys", OnMaster, "rejected keys",
		"a minion whose key was rejected stays outside, and ends, until the key is deleted; Phoenix leaves that to you"},
	{"denied-keys", OnMaster, "denied keys",
		"another key than the known one knocked under these ids: a machine that was rebuilt, two of one name, or an impostor"},
	{"what-phoenix-would-do", OnMaster, "what a bridge would do about the keys that are here now",
		"what is accepted already is foreign to Phoenix and is never touched, until you adopt it"},

	{"salt-minion", OnMinion, "version, configuration and id of the minion, and whether it runs",
		"an agent keeps the masters of the minion beside it"},
	{"minion-config", OnMinion, "files of the configuration that Salt leaves out because of a fault",
		"what stands in a file that is left out does not hold"},
	{"cache-jobs", OnMinion, "`cache_jobs`",
		"a return goes to one master and is lost with it: then the minion's own copy is the only record of its first highstate"},
	{"jid-queue", OnMinion, "`minion_jid_queue_hwm`",
		"a job that comes again, as after a failure, is dropped only as long as the minion remembers its id: after that many others it runs once more"},
	{"masters", OnMinion, "`master` and `master_type`",
		"a minion with one master is alone when that one dies, and one with several that does not fail over is connected to all"},
	{"alive-interval", OnMinion, "`master_alive_interval`",
		"0, Salt's default, never looks whether the master lives, so that the minion never fails over"},
	{"keep-alive", OnMinion, "`tcp_keepalive` and its times",
		"a master whose packets vanish stays connected until TCP gives up: 16 minutes with Salt's defaults"},
	{"rejected-retry", OnMinion, "`rejected_retry`",
		"a minion that is denied once exits, and stays so until somebody starts it"},
	{"retry-dns", OnMinion, "`retry_dns`",
		"with failover Salt wants 0: else it waits for the name of a master that is gone, and never tries the next"},
	{"drop-in", OnMinion, "the agent's `99-phoenix.conf`, and whether another file changes what it says",
		"the minion follows the masters that live by what stands there"},
	{"alive-schedule", OnMinion, "`__master_alive_` jobs of masters that are not on the list, in `_schedule.conf`",
		"Salt forgets them there: each goes on to look for a master that is gone, and makes the minion fail over"},
	{"master-key", OnMinion, "`minion_master.pub`, the key that the minion trusts",
		"a master with another key is refused; an agent holds still until it sees a master with this one"},
	{"startup-states", OnMinion, "`startup_states`",
		"the minion runs states at each of its starts, beside its first highstate: one of the two is refused as busy, or both run"},

	{"configuration", WithConfig, "Phoenix's own configuration",
		"without one, only Salt is looked at"},
	{"bridge", WithConfig, "whether a bridge answers on its socket, and what it says",
		"without a bridge nobody decides on keys here"},
	{"relay", WithConfig, "whether the bridge's relay reads the master's jobs and reaches the other masters (`relay.listen`)",
		"a command reaches the minions of those masters alone that the relay reaches"},
	{"store", WithConfig, "whether the store can be reached and read",
		"without its store a bridge starts nothing"},
	{"store-rows", WithConfig, "rows of the store that cannot be decoded",
		"nothing happens for those ids until somebody corrects or deletes the rows"},
	{"tables", WithConfig, "DynamoDB's tables, their keys, the index by-status, and TTL",
		"terminations are found by the index; without TTL rows stay for good"},
	{"queues", WithConfig, "whether each of `sqs.queues` can be reached",
		"launches and terminations come by them"},
	{"groups", WithConfig, "whether AutoScaling knows each of `autoscaling.groups`",
		"what no message told of is found by asking for the groups"},
	{"clock", WithConfig, "this machine's clock against AWS's",
		"AWS refuses requests that are five minutes off"},
	{"permissions", WithConfig, "what IAM denies, by calls that change nothing",
		"a bridge that may not do one of these stops at it when it is needed"},
	{"proof", WithConfig, "whether this instance has written the digest of its minion's key",
		"with admit: proven no key is let in without it"},
	{"fleet-key", WithConfig, "this master's key, or the one that the minion trusts, against the masters of the fleet and the key that they share in S3",
		"minions that trust one key refuse a master with another"},
	{"follow", WithConfig, "how many minions are connected to how many masters, as the masters' rows say, against `agent.follow`",
		"a minion that is down to one master is served by nobody when that one dies"},
}
