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

// An agent is found by its command line; a dry run is none.
func TestAgentThatHasEnded(t *testing.T) {
	dir := t.TempDir()
	h := host{proc: dir}
	if runs, known := h.agentRuns(); runs || known {
		t.Errorf("nothing can be seen: %v, %v", runs, known)
	}
	write(t, dir, "1/cmdline", "/sbin/init")
	write(t, dir, "7/cmdline", "/usr/bin/phoenix\x00agent\x00--dry-run")
	write(t, dir, "8/cmdline", "/usr/bin/phoenix\x00bridge")
	if runs, known := h.agentRuns(); runs || !known {
		t.Errorf("none runs: %v, %v", runs, known)
	}
	write(t, dir, "9/cmdline", "/usr/bin/phoenix\x00--config\x00/etc/phoenix/phoenix.yaml\x00agent")
	if runs, _ := h.agentRuns(); !runs {
		t.Error("one runs")
	}
}

// Another master that runs on this machine is found by its command line, and what it shares
// by its configuration. The processes are entries of a folder that stands for /proc.
func TestSharedWithAnotherMaster(t *testing.T) {
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	text := func(name string) string {
		return fmt.Sprintf("cachedir: %s\nsock_dir: %s\npki_dir: %s\n", cache, filepath.Join(dir, name, "run"), filepath.Join(dir, name, "pki"))
	}
	own, other := write(t, dir, "a/master", text("a")), write(t, dir, "b/master", text("b"))
	command := func(pid, config string) {
		write(t, dir, "proc/"+pid+"/cmdline", strings.Join([]string{"/usr/bin/python3", "/usr/bin/salt-master", "-c", filepath.Dir(config), "MainProcess"}, "\x00"))
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
