package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"phoenix/lab"
)

// saltDefaults take back what the lab's minions have quicker than Salt's own.
var saltDefaults = map[string]any{"acceptance_wait_time": 10, "random_reauth_delay": 10}

// TestStrModeWithUnreachableMaster: what a minion does with master_type: str and a
// list of two masters, of which one cannot be reached. docs/salt.md tells of it.
func TestStrModeWithUnreachableMaster(t *testing.T) {
	t.Parallel()
	versions, _ := salts()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			child, err := lab.Isolate("-test.run=^TestStrModeWithUnreachableMaster$/^"+regexp.QuoteMeta(version)+"$", "-test.v", "-test.timeout=20m")
			if err != nil {
				t.Fatal(err)
			}
			if child {
				strMode(t, version)
			}
		})
	}
}

func strMode(t *testing.T, version string) {
	l := lab.New(t)
	dead, living := l.NewHost(), l.NewHost()
	gone := l.StartMaster(lab.MasterOptions{Version: version, Host: dead})
	gone.Ready()
	stays := l.StartMaster(lab.MasterOptions{Version: version, Host: living, KeyFrom: gone, Extra: map[string]any{"auto_accept": true}})
	stays.Ready()

	with := func(extra map[string]any) map[string]any {
		all := map[string]any{}
		for _, from := range []map[string]any{saltDefaults, extra} {
			for k, v := range from {
				all[k] = v
			}
		}
		return all
	}
	ports := func(m *lab.Master) string { return fmt.Sprintf("%s:%d", m.Addr, l.RetPort) }
	calls := 0
	call := func(name string, extra map[string]any) {
		dir := t.TempDir()
		calls++
		text := fmt.Sprintf("id: caller-%d\nroot_dir: %s\nmaster: [%q, %q]\npublish_port: %d\n", calls, dir, ports(gone), ports(stays), l.PublishPort)
		for k, v := range with(extra) {
			text += fmt.Sprintf("%s: %v\n", k, v)
		}
		if err := os.MkdirAll(filepath.Join(dir, "etc", "salt"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "etc", "salt", "minion"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		out, err := stays.Salt.Call(filepath.Join(dir, "etc", "salt"), "test.ping")
		t.Logf("%s: salt-call test.ping took %.1f s (%v) %s", name, time.Since(begun).Seconds(), err, strings.TrimSpace(out))
	}
	start := func(name, id string, extra map[string]any, masters ...*lab.Master) *lab.Minion {
		served := lab.NewServed(id)
		served.By(stays)
		begun := time.Now()
		m := l.StartMinion(lab.MinionOptions{ID: id, Masters: masters, Extra: with(extra)})
		l.Eventually(within, id+" is served", func() (bool, string) { return !served.Last(id).At.IsZero(), m.Tail() })
		t.Logf("%s: served by the living %.1f s after its start", name, served.Last(id).At.Sub(begun).Seconds())
		served.Gaps()
		wait := time.NewTimer(75 * time.Second)
		<-wait.C
		t.Logf("%s: longest time between two answers %.1f s in 75 s", name, served.Gaps()[id].Seconds())
		return m
	}
	call("both live, defaults", nil)
	dead.Vanish()
	call("first vanished, defaults", nil)
	call("first vanished, auth_tries 1", map[string]any{"auth_tries": 1})
	call("first vanished, auth_tries 2", map[string]any{"auth_tries": 2})
	call("first vanished, auth_tries 1 auth_timeout 3", map[string]any{"auth_tries": 1, "auth_timeout": 3})
	m := start("vanished from the start, defaults", "a", nil, gone, stays)
	t.Log(strings.Join(m.Grep("ERROR"), "\n"))
	m.Kill()
	m = start("vanished from the start, auth_tries 1", "b", map[string]any{"auth_tries": 1}, gone, stays)
	t.Log(strings.Join(m.Grep("ERROR"), "\n"))
	dead.Return()
	gone.Run("salt-key", "-L")
	m.Kill()
	gone.Kill()
	call("first refuses, defaults", nil)
	call("first refuses, auth_tries 1", map[string]any{"auth_tries": 1})
	m = start("refuses from the start, defaults", "c", nil, gone, stays)
	m.Kill()
}
