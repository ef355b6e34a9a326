package cli

// example is a command line, and what for.
type example struct{ line, meaning string }

// examples are shown by the help of each command, by its name.
var examples = map[string][]example{
	"bridge": {
		{"phoenix bridge --dry-run", "what it would do with this master's keys; nothing is changed"},
		{"phoenix bridge --store dynamodb: --http-listen 127.0.0.1:9180",
			"with a store for several masters, and metrics"},
	},
	"agent": {{"phoenix agent --dry-run", "which masters this minion would follow; nothing is changed"}},
	"status": {
		{"phoenix status --watch", "refresh until q is pressed"},
		{"phoenix status --check >/dev/null", "in a timer: standard error says what is wrong, if anything is"},
	},
	"minions list": {
		{"phoenix minions list 'web-*' --phase failed", "those whose highstate failed"},
		{"phoenix minions list --on salt-1", "those that salt-1 serves"},
		{"phoenix minions list --last-run --outcome failed", "those whose last state run failed, of any kind"},
	},
	"minions where": {{"phoenix minions where web-3 'db-*'", "which masters serve these"}},
	"minions add": {
		{"phoenix minions add web-1 web-2", "their keys are accepted once the minions send them"},
		{"phoenix minions add --again web-1", "another machine has this name now"},
		{"cut -d, -f1 hosts.csv | phoenix minions add -", "ids from standard input"},
	},
	"minions retire": {
		{"phoenix minions retire web-2 --dry-run", "its row and key; nothing is changed"},
		{"phoenix minions retire web-2", "it is gone for good"},
		{"phoenix minions retire --held", "those whose terminations wait for an operator"},
	},
	"minions explain": {
		{"phoenix minions explain web-1", "why it is served or not"},
		{"phoenix minions explain web-1 -n 50", "with its last 50 decisions"},
	},
	"adopt":        {{"phoenix adopt --dry-run", "which accepted keys would become minions of the fleet"}},
	"masters list": {{"phoenix masters list", "all masters, and how many minions each serves"}},
	"masters check": {
		{"phoenix masters check && systemctl restart salt-master", "restart this master only if that is safe"},
		{"phoenix masters check salt-2", "another one"},
	},
	"masters drain": {
		{"phoenix masters drain --self", "before work on this master"},
		{"phoenix masters drain --self --undo", "after it"},
	},
	"masters retire": {{"phoenix masters retire salt-1", "it will not come back"}},
	"keys list": {
		{"phoenix keys list --state denied", "keys that Salt denied, since another one of the id is accepted"},
		{"phoenix keys list 'web-*'", "all keys of some minions"},
	},
	"keys accept": {
		{"phoenix keys accept web-1", "accept its pending key"},
		{"phoenix keys accept --rebind web-1",
			"its machine was rebuilt: accept its new key; it may be started before the machine is"},
		{"phoenix keys accept --rebind --yes --key-sha256 DIGEST web-1", "in a script: that key and no other"},
	},
	"keys restore": {{"phoenix keys restore web-1", "after salt-key -d web-1"}},
	"keys delete":  {{"phoenix keys delete web-1 --state denied", "this one key"}},
	"highstate list": {
		{"phoenix highstate list", "who has no first highstate yet, and why"},
		{"phoenix highstate list web-1", "this one, also if its highstate is done"},
		{"phoenix highstate list --all --wide", "also those that are done, with jobs and times"},
	},
	"highstate show":   {{"phoenix highstate show web-1", "which of its states failed"}},
	"highstate resume": {{"phoenix highstate resume", "after the states are repaired"}},
	"highstate run": {
		{"phoenix highstate run web-1 --wait 10m", "once more, and wait for its end"},
		{"phoenix highstate run web-1 --force", "abandon the one that is running, and run another"},
	},
	"jobs list": {{"phoenix jobs list", "the last jobs, and how many minions returned"}},
	"jobs show": {{"phoenix jobs show 20260102030407165673", "who returned, who is missing, and why"}},
	"events": {
		{"phoenix events --tag 'salt/job/*/ret/web-?'", "returns of some minions"},
		{"phoenix events --tag salt/minion/web-1/start --count 1 --timeout 5m", "wait until it is back"},
	},
	"roster": {{"phoenix roster >/etc/salt/roster", "a roster for salt-ssh"}},
	"prune":  {{"phoenix prune --dry-run", "which rows would go"}},
	"history": {
		{"phoenix history --since 02:00 --until 03:00", "what happened between two and three"},
		{"phoenix history --since 2h 'web-*'", "with some minions"},
		{"ssh salt-2 phoenix history --json | phoenix history --merge -", "the decisions of two masters"},
	},
	"identity show":    {{"phoenix identity show", "this master's key and the shared one"}},
	"identity import":  {{"phoenix identity import", "share this master's key pair"}},
	"identity install": {{"phoenix identity install", "give this master the shared key pair"}},
	"identity rotate":  {{"phoenix identity rotate --start", "replace the key pair of all masters"}},
	"store backup":     {{"phoenix store backup /var/backups/phoenix-$(date +%F).db", "while bridges run"}},
	"store restore":    {{"phoenix store restore /var/backups/phoenix-2026-01-31.db", "while no bridge runs here"}},
	"doctor": {
		{"phoenix doctor", "all checks"},
		{"phoenix doctor --quiet", "findings alone"},
	},
	"completion bash": {{"phoenix completion bash >/etc/bash_completion.d/phoenix", "for all users"}},
	"completion zsh":  {{"phoenix completion zsh >/usr/share/zsh/site-functions/_phoenix", "for all users"}},
}
