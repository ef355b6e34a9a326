package main

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
		"command":   {[]string{"--agent-restart", "[]"}, exitUsage, "agent.restart"},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"phoenix", "agent", "--dry-run", "--store", "sqlite:" + filepath.Join(dir, "fleet.db"), "--salt-config", minion}, test.args...)
		if code := run(t.Context(), args, &out, &errs); code != test.code || !strings.Contains(errs.String(), test.says) || strings.Count(errs.String(), "\n") != 1 {
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
		if code := run(t.Context(), []string{"phoenix", "agent", "--dry-run", "--store", "sqlite:" + path, "--salt-config", minion}, &out, &errs); code != exitOK {
			t.Fatalf("exit code %d: %s", code, &errs)
		}
		return out.String()
	}
	if out := dry(); !strings.Contains(out, "has met no master yet") || !strings.Contains(out, "table of masters is empty") {
		t.Error(out)
	}
	// It says that it is ready, and nobody listens there.
	if _, err := store.Beat(t.Context(), fleet.Beat{InstanceID: "master-1", IPAddr: "127.0.0.1", Incarnation: "1", Ready: true, MasterKeySHA256: "k"}); err != nil {
		t.Fatal(err)
	}
	if out := dry(); !strings.Contains(out, "master-1 at 127.0.0.1: does not answer") || !strings.Contains(out, "no master is ready") {
		t.Error(out)
	}
	if _, err := os.Stat(filepath.Join(dir, "minion.d")); err == nil {
		t.Error("the dry run made minion.d")
	}
}
