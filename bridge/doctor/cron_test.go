package doctor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"phoenix/bridge/salt"
)

// What cron and systemd run is found wherever it is written, and nothing else is.
func TestCron(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/crontab":                      "# */5 * * * * root salt-key -yA\nMAILTO=root\n17 * * * * root cd / && run-parts /etc/cron.hourly\n",
		"etc/cron.d/keys":                  "*/5 * * * * root salt-key -y -A >/dev/null\n",
		"etc/cron.d/list":                  "*/5 * * * * root salt-key -L\n",
		"etc/cron.d/script":                "@hourly root /usr/local/bin/purge\n",
		"usr/local/bin/purge":              "#!/bin/sh\n# salt-key -A\nsalt-key -y -d 'web-*'\n",
		"etc/cron.daily/high":              "#!/bin/sh\nsalt '*' state.highstate\n",
		"var/spool/cron/crontabs/root":     "@reboot salt-call state.apply\n0 3 * * * salt-call --local test.ping\n",
		"etc/systemd/system/let.service":   "[Unit]\nDescription=salt-key -A\n[Service]\nExecStart=/bin/sh -c 'salt-key --accept-all -y'\n",
		"etc/rc.local":                     "#!/bin/sh\nsalt-call state.highstate\n",
		"etc/systemd/system/x.timer":       "ExecStart=salt-key -A\n",
		"etc/systemd/system/other.service": "[Service]\nExecStart=/usr/bin/salt-master\n",
	} {
		write(t, root, name, text)
	}
	jobs, err := cronJobs(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, j := range jobs {
		name, _ := filepath.Rel(root, j.File)
		got = append(got, fmt.Sprintf("%s: %s boot=%v minion=%v", name, strings.Join(j.Calls, ", "), j.Boot, j.Minion))
	}
	slices.Sort(got)
	if want := []string{
		"etc/cron.d/keys: accepts keys boot=false minion=false",
		"etc/cron.d/script: changes keys boot=false minion=false",
		"etc/cron.daily/high: runs states boot=false minion=false",
		"etc/rc.local: runs states boot=true minion=true",
		"etc/systemd/system/let.service: accepts keys boot=false minion=false",
		"var/spool/cron/crontabs/root: runs states boot=true minion=true",
	}; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if jobs, err := cronJobs(t.TempDir()); len(jobs) > 0 || err != nil {
		t.Errorf("no file: %v, %v", jobs, err)
	}
}

// An agent is found by its command line, and the minion that it is beside by its flags,
// variables and configuration; a dry run is none. The processes are entries of a folder
// that stands for /proc.
func TestAgentOfThisMinion(t *testing.T) {
	dir := t.TempDir()
	minion := write(t, dir, "etc/minion", "id: web-1\n")
	config := write(t, dir, "etc/phoenix.yaml", "salt_config: "+minion+"\n")
	other := write(t, dir, "etc/other.yaml", "salt_config: /srv/other/minion\n")
	h := host{proc: filepath.Join(dir, "proc")}
	expect := func(what string, runs, known bool) {
		t.Helper()
		if gotRuns, gotKnown := h.agentRuns(minion); gotRuns != runs || gotKnown != known {
			t.Errorf("%s: runs %v, known %v", what, gotRuns, gotKnown)
		}
	}
	process := func(environ string, words ...string) {
		t.Helper()
		write(t, dir, "proc/9/cmdline", strings.Join(words, "\x00"))
		write(t, dir, "proc/9/environ", environ)
	}
	expect("nothing can be seen", false, false)
	write(t, dir, "proc/1/cmdline", "/sbin/init")
	write(t, dir, "proc/7/cmdline", "/usr/bin/phoenix\x00agent\x00--dry-run\x00--config\x00"+config)
	write(t, dir, "proc/8/cmdline", "/usr/bin/phoenix\x00bridge\x00--config\x00"+config)
	expect("none runs", false, true)
	process("", "/usr/bin/phoenix", "--config", other, "agent")
	expect("another minion's", false, true)
	process("PHOENIX_CONFIG="+config, "/usr/bin/phoenix", "--config", other, "agent")
	expect("another minion's by its flag", false, true)
	process("", "/usr/bin/phoenix", "--config="+config, "agent")
	expect("by its configuration", true, true)
	process("", "/usr/bin/phoenix", "--config", other, "agent", "--salt-config", minion)
	expect("by its flag", true, true)
	process("HOME=/\x00PHOENIX_CONFIG="+config, "/usr/bin/phoenix", "agent")
	expect("by its variable", true, true)
	process("", "/usr/bin/phoenix", "--config", filepath.Join(dir, "none"), "agent")
	expect("its configuration cannot be read", false, false)
}

// Before the agent has written its drop-in, what it sets is left to it.
func TestAgentSetsOptions(t *testing.T) {
	checks := []string{"jid-queue", "alive-interval", "keep-alive", "rejected-retry"}
	m := plainMinion()
	m.DropIn = nil
	for _, option := range []string{"minion_jid_queue_hwm", "master_alive_interval", "tcp_keepalive_idle",
		"tcp_keepalive_cnt", "tcp_keepalive_intvl", "rejected_retry"} {
		delete(m.Config.Options, option)
	}
	for want, is := range map[string][2]bool{"nothing: the agent sets this": {true, true},
		"the agent sets this": {false, true}, "restart salt-minion": {}} {
		m.AgentRuns, m.AgentInstalled = is[0], is[1]
		for _, f := range ExamineMinion(m) {
			if slices.Contains(checks, f.Check) && (!strings.Contains(f.Mend, want) ||
				is[1] != (len(f.Commands) == 0)) {
				t.Errorf("agent runs %v, is installed %v: %+v", is[0], is[1], f)
			}
		}
	}
}

// Another master that runs on this machine is found by its command line, and what it shares
// by its configuration. The processes are entries of a folder that stands for /proc.
func TestSharedWithAnotherMaster(t *testing.T) {
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	text := func(name string) string {
		return fmt.Sprintf("cachedir: %s\nsock_dir: %s\npki_dir: %s\n", cache, filepath.Join(dir, name, "run"),
			filepath.Join(dir, name, "pki"))
	}
	own, other := write(t, dir, "a/master", text("a")), write(t, dir, "b/master", text("b"))
	command := func(pid, config string) {
		write(t, dir, "proc/"+pid+"/cmdline",
			strings.Join([]string{"/usr/bin/python3", "/usr/bin/salt-master", "-c", filepath.Dir(config),
				"MainProcess"}, "\x00"))
	}
	c, err := salt.ReadConfig(own)
	if err != nil {
		t.Fatal(err)
	}
	h := host{proc: filepath.Join(dir, "proc")}
	command("10", own)
	command("11", own)
	write(t, dir, "proc/12/cmdline", "/usr/bin/salt-minion\x00-c\x00"+filepath.Dir(other))
	write(t, dir, "proc/13/cmdline", "/usr/bin/salt-master\x00-c\x00/nowhere")
	if shared := h.sharedFolders(c); len(shared) > 0 {
		t.Errorf("one master: %v", shared)
	}
	command("14", other)
	command("15", other)
	if shared := h.sharedFolders(c); !slices.Equal(shared, []SharedFolder{{"cachedir", other}}) {
		t.Errorf("two masters with one cachedir: %v", shared)
	}
}

// A master that has ended is not taken to run because another one on the machine listens on
// the same port, at an address of its own. The tables are entries of a folder that stands
// for /proc, as the kernel writes them.
func TestPortOfAnotherMaster(t *testing.T) {
	dir := t.TempDir()
	h := host{proc: dir}
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	row := func(local, state string) string {
		return head + "   0: " + local + " 00000000:0000 " + state +
			" 00000000:00000000 00:00000000 00000000     0        0 1 1\n"
	}
	for _, test := range []struct {
		tcp, tcp6, address string
		want               bool
	}{
		{row("0A01000A:119A", "0A"), head, "10.0.1.10", true},
		{row("0A01000A:119A", "0A"), head, "10.0.1.11", false},
		{row("0A01000A:119A", "01"), head, "10.0.1.10", false}, // a connection
		{row("0A01000A:119B", "0A"), head, "10.0.1.10", false}, // another port
		{row("0A01000A:119A", "0A"), head, "0.0.0.0", true},
		{row("0A01000A:119A", "0A"), head, "eth0", true},
		{row("00000000:119A", "0A"), head, "10.0.1.11", true},
		{head, row("00000000000000000000000000000000:119A", "0A"), "10.0.1.11", true},
		{head, row("0000000000000000FFFF00000A01000A:119A", "0A"), "10.0.1.10", true},
		{head, row("B80D0120000000000000000001000000:119A", "0A"), "[2001:db8::1]", true},
		{head, row("B80D0120000000000000000001000000:119A", "0A"), "2001:db8::2", false},
	} {
		write(t, dir, "net/tcp", test.tcp)
		write(t, dir, "net/tcp6", test.tcp6)
		if got, err := h.listensTCP(0, test.address, 4506); got != test.want || err != nil {
			t.Errorf("%s%s: at %s: %v, %v", test.tcp, test.tcp6, test.address, got, err)
		}
	}
}
