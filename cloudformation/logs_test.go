package cloudformation

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"phoenix/bridge/config"
)

// bootstrap runs a line of shell with the functions of the bootstrap, but for its main
// part, and with programs of its own before all others.
func bootstrap(t *testing.T, programs, line string, env ...string) string {
	t.Helper()
	library, _, found := strings.Cut(read(t, "bootstrap/bootstrap.sh"), "\n# shellcheck disable=SC1091")
	if !found {
		t.Fatal("the main part of the bootstrap is not found")
	}
	cmd := exec.Command("bash", "-c", library+"\n"+line)
	cmd.Env = append([]string{"PATH=" + programs + ":" + os.Getenv("PATH")}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// program writes a program that prints its name and its arguments.
func program(t *testing.T, dir, name string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho "+name+" $*\n"), 0o755))
}

// collected is the configuration of the CloudWatch agent, as far as the bootstrap uses it.
type collected struct {
	Logs struct {
		Collected struct {
			Files struct {
				List []struct {
					Path    string `json:"file_path"`
					Group   string `json:"log_group_name"`
					Stream  string `json:"log_stream_name"`
					Filters []struct{ Type, Expression string }
				} `json:"collect_list"`
			} `json:"files"`
		} `json:"logs_collected"`
	} `json:"logs"`
}

// TestLogFiles: what the CloudWatch agent is to collect is what is written, and goes to
// the groups that the roles may write to.
func TestLogFiles(t *testing.T) {
	for audit, want := range map[string]string{
		"audit": "/var/lib/phoenix/audit.log audit i-1, /var/log/phoenix-bootstrap.log logs i-1/bootstrap, /var/log/syslog logs i-1/phoenix",
		"":      "/var/log/phoenix-bootstrap.log logs i-1/bootstrap, /var/log/syslog logs i-1/phoenix",
	} {
		dir := t.TempDir()
		program(t, dir, "apt-get")
		out := bootstrap(t, dir, "instance=i-1; log_files", "PHOENIX_LOG_GROUP=logs", "PHOENIX_AUDIT_GROUP="+audit)
		var c collected
		decode := json.NewDecoder(strings.NewReader(out))
		decode.DisallowUnknownFields()
		if err := decode.Decode(&c); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var got []string
		for _, f := range c.Logs.Collected.Files.List {
			got = append(got, strings.Join([]string{f.Path, f.Group, f.Stream}, " "))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("collected: %s\nwant: %s", strings.Join(got, ", "), want)
		}
		filters := c.Logs.Collected.Files.List[len(got)-1].Filters
		if len(filters) != 1 || filters[0].Type != "include" {
			t.Fatalf("filters %+v", filters)
		}
		filter := regexp.MustCompile(filters[0].Expression) // the agent is written in Go, too
		for line, taken := range map[string]bool{
			"Nov 26 23:00:00 ip-10-64-0-7 phoenix[812]: time=2026-11-26T23:00:00Z level=INFO msg=\"bridge starts\"":            true,
			"2026-11-26T23:00:00.1+00:00 ip-10-64-0-7 phoenix[812]: time=2026-11-26T23:00:00Z level=INFO":                      true,
			"Nov 26 23:00:00 ip-10-64-0-7 systemd[1]: phoenix-bridge.service: Main process exited, code=killed, status=6/ABRT": true,
			"Nov 26 23:00:00 ip-10-64-0-7 sshd[99]: Failed password for phoenix from 10.0.0.1":                                 false,
			"Nov 26 23:00:00 ip-10-64-0-7 cloud-init[1500]: 2026-11-26T23:00:00Z phoenix-bootstrap: setting up minion i-1":     false,
			"Nov 26 23:00:00 ip-10-64-0-7 systemd[1]: Started salt-minion.service - The Salt Minion.":                          false,
		} {
			if filter.MatchString(line) != taken {
				t.Errorf("collected %v: %s", !taken, line)
			}
		}
	}
	// The files that are written.
	cfg := config.Default()
	cfg.Store = "dynamodb:"
	must(t, cfg.Validate())
	if !strings.Contains(read(t, "bootstrap/bootstrap.sh"), "tee -a /var/log/phoenix-bootstrap.log") ||
		cfg.Audit.File != "/var/lib/phoenix/audit.log" {
		t.Errorf("the audit trail is %s", cfg.Audit.File)
	}
}

// TestLogsAreNotNeeded: without LogDays nothing is done, and a machine whose logs cannot
// be collected says so and goes on.
func TestLogsAreNotNeeded(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"apt-get", "dnf", "systemctl", "rsyslogd"} {
		program(t, dir, name)
	}
	if out := bootstrap(t, dir, "collect_logs && echo goes on", "PHOENIX_LOG_GROUP="); out != "goes on\n" {
		t.Errorf("without LogDays: %s", out)
	}
	out := bootstrap(t, dir, "collect_logs && echo goes on", "PHOENIX_LOG_GROUP=logs", "PHOENIX_AUDIT_GROUP=",
		"PHOENIX_PROXY=")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 ||
		!strings.Contains(lines[0], "WARNING: no logs are collected: the image has no amazon-cloudwatch-agent") ||
		lines[1] != "goes on" {
		t.Errorf("without an agent of CloudWatch: %s", out)
	}
	// With dnf in the place of apt, both are installed, once.
	must(t, os.Remove(filepath.Join(dir, "apt-get")))
	must(t, os.Remove(filepath.Join(dir, "rsyslogd")))
	must(t, os.WriteFile(filepath.Join(dir, "dnf"), []byte("#!/bin/sh\necho dnf $*\nexit 1\n"), 0o755))
	out = bootstrap(t, dir, "PATH="+dir+
		":/nowhere; timeout() { shift; \"$@\"; }; date() { :; }; collect_logs && echo goes on",
		"PHOENIX_LOG_GROUP=logs", "PHOENIX_AUDIT_GROUP=", "PHOENIX_PROXY=")
	if !strings.HasPrefix(out, "dnf -q -y install amazon-cloudwatch-agent rsyslog\n") ||
		!strings.HasSuffix(out, "the image has no amazon-cloudwatch-agent rsyslog\ngoes on\n") {
		t.Errorf("without packages: %s", out)
	}
}
