package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
)

// An agent that is told something wrong says so in one line, and changes nothing.
func TestAgentRefuses(t *testing.T) {
	dir := t.TempDir()
	minion := filepath.Join(dir, "minion")
	if err := os.WriteFile(minion, []byte("id: web-1\nroot_dir: "+dir+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no store":  {nil, exitStore, "start a bridge first"},
		"no minion": {[]string{"--salt-config", filepath.Join(dir, "none")}, exitUsage, "salt_config"},
		"order":     {[]string{"--agent-order", "random"}, exitUsage, "agent.order"},
		"interval":  {[]string{"--agent-interval", "1s"}, exitUsage, "agent.interval"},
		"settle":    {[]string{"--agent-settle", "-1s"}, exitUsage, "agent.settle"},
		"follow":    {[]string{"--agent-follow", "none"}, exitUsage, "agent.follow"},
		"follow 0":  {[]string{"--agent-follow", "0"}, exitUsage, "agent.follow"},
		"command":   {[]string{"--agent-restart", "[]"}, exitUsage, "agent.restart"},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"phoenix", "agent", "--dry-run", "--store", "sqlite:" + filepath.Join(dir, "fleet.db"),
			"--salt-config", minion}, test.args...)
		if code := run(t.Context(), args, &out, &errs); code != test.code ||
			!strings.Contains(errs.String(), test.says) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%s: exit code %d, want %d: %s%s", name, code, test.code, &out, &errs)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// A minion that has met no master yet: the dry run says who it would turn to, or
// why to nobody.
func TestAgentDryRun(t *testing.T) {
	dir := t.TempDir()
	minion := filepath.Join(dir, "minion")
	if err := os.WriteFile(minion, []byte("id: web-1\nroot_dir: "+dir+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "fleet.db")
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	dry := func() string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"phoenix", "agent", "--dry-run", "--store", "sqlite:" + path,
			"--salt-config", minion}, &out, &errs); code != exitOK {
			t.Fatalf("exit code %d: %s", code, &errs)
		}
		return out.String()
	}
	if out := dry(); !strings.Contains(out, "has met no master yet") ||
		!strings.Contains(out, "table of masters is empty") {
		t.Error(out)
	}
	// It says that it is ready, and nobody listens there.
	if _, err := store.Beat(t.Context(), fleet.Beat{InstanceID: "master-1", IPAddr: "127.0.0.1", Incarnation: "1",
		Ready: true, MasterKeySHA256: "k"}); err != nil {
		t.Fatal(err)
	}
	if out := dry(); !strings.Contains(out, "master-1 at 127.0.0.1: does not answer") ||
		!strings.Contains(out, "no master is ready") {
		t.Error(out)
	}
	if _, err := os.Stat(filepath.Join(dir, "minion.d")); err == nil {
		t.Error("the dry run made minion.d")
	}
}

// A minion that follows several masters at once by its own configuration is left
// alone until agent.follow says what it is to be. One that an agent has been
// beside already is not asked about.
func TestAgentLeavesHotMinionsAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "fleet.db")
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Beat(t.Context(), fleet.Beat{InstanceID: "master-1", IPAddr: "127.0.0.1", Incarnation: "1",
		Ready: true, MasterKeySHA256: "k"}); err != nil {
		t.Fatal(err)
	}
	const alone = "the minion follows 2 masters at once by its own configuration (salt-a, salt-b; master_type: str), and agent.follow is not set"
	for name, test := range map[string]struct {
		cfg, dropIn string
		args        []string
		alone       bool
	}{
		"hot":                   {"master: [salt-a, salt-b]\n", "", nil, true},
		"hot, in so many words": {"master: [salt-a, salt-b]\nmaster_type: str\n", "", nil, true},
		"hot, and told so":      {"master: [salt-a, salt-b]\n", "", []string{"--agent-follow", "all"}, false},
		"hot, and told not":     {"master: [salt-a, salt-b]\n", "", []string{"--agent-follow", "1"}, false},
		"a list of one":         {"master: [salt-a]\n", "", nil, false},
		"failover":              {"master: [salt-a, salt-b]\nmaster_type: failover\n", "", nil, false},
		"an agent was here": {"master: [salt-a, salt-b]\n", "master: ['10.0.0.1']\nmaster_type: failover\n", nil,
			false},
	} {
		tree := t.TempDir()
		minion := filepath.Join(tree, "minion")
		text := "id: web-1\nroot_dir: " + tree + "\n" + test.cfg
		if err := os.WriteFile(minion, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if test.dropIn != "" {
			if err := os.Mkdir(filepath.Join(tree, "minion.d"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(tree, "minion.d", "99-phoenix.conf"), []byte(test.dropIn),
				0o644); err != nil {
				t.Fatal(err)
			}
		}
		var out, errs bytes.Buffer
		args := append([]string{"phoenix", "agent", "--dry-run", "--store", "sqlite:" + path, "--salt-config", minion},
			test.args...)
		if code := run(t.Context(), args, &out, &errs); code != exitOK ||
			strings.Contains(out.String(), alone) != test.alone {
			t.Errorf("%s: exit code %d\n%s%s", name, code, &out, &errs)
		}
	}
}
