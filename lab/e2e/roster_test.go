package e2e_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"phoenix/lab"
)

// TestRoster: by grains, of real minions, a roster that Salt itself reads; and what a
// minion says of itself never becomes more than a name in it.
func TestRoster(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3008) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			taken := filepath.Join(l.Dir(), "taken")
			master := l.StartMaster(lab.MasterOptions{Version: version})
			bridge := l.StartBridge(lab.BridgeOptions{Master: master})
			for id, grains := range map[string]map[string]any{
				"web-1":  {"role": []string{"web", "cache"}, "where": "10.9.8.1"},
				"web-2":  {"role": "web", "where": "{{ salt['cmd.run']('touch " + taken + "') }}"},
				"db-1":   {"role": "db", "where": "db-1.example.org"},
				"guest1": {"role": "web", "where": "10.9.8.9"},
			} {
				if id != "guest1" { // who is not of the fleet is not in its roster
					bridge.Phoenix("minions", "add", id)
				}
				l.StartMinion(lab.MinionOptions{ID: id, Masters: []*lab.Master{master},
					Extra: map[string]any{"grains": grains}})
			}
			master.Ready()
			bridge.Ready()
			l.Eventually(within, "the master knows all grains", func() (bool, string) {
				_, stderr, code := bridge.Try("roster")
				return code == 0 && stderr == "", stderr
			})
			for _, test := range []struct {
				args []string
				want map[string]map[string]string
			}{
				{[]string{"--host", "where"}, map[string]map[string]string{"web-1": {"host": "10.9.8.1"},
					"db-1": {"host": "db-1.example.org"}}},
				{[]string{"--host", "where", "--grain", "role:web", "--user", "ec2-user"},
					map[string]map[string]string{"web-1": {"host": "10.9.8.1", "user": "ec2-user"}}},
				{[]string{"--host", "where", "--target", "db-*"},
					map[string]map[string]string{"db-1": {"host": "db-1.example.org"}}},
				{[]string{"--host", "where", "--grain", "role:web", "--grain", "role:db"},
					map[string]map[string]string{}},
			} {
				text, _, code := bridge.Try(append([]string{"roster"}, test.args...)...)
				if read := readRoster(t, master, text); code != 0 || !maps.EqualFunc(read, test.want, maps.Equal) {
					t.Errorf("phoenix roster %v: exit %d, Salt reads %v of\n%s", test.args, code, read, text)
				}
			}
			var own map[string]map[string]string
			bridge.JSON(&own, "roster", "--grain", "role:web")
			if len(own) > 0 { // the machine has an address that others reach
				t.Logf("by their own addresses: %v", own)
			}
			if _, err := os.Stat(taken); err == nil {
				t.Error("a grain was run")
			}
		})
	}
}

// readRoster has Salt read a roster file, as salt-ssh does.
func readRoster(t *testing.T, master *lab.Master, text string) map[string]map[string]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "roster")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const ask = `
import json, sys
import salt.config, salt.roster
opts = salt.config.client_config(sys.argv[1])
opts["roster_file"] = sys.argv[2]
print(json.dumps(salt.roster.Roster(opts, "flat").targets("*", "glob")))`
	cmd := exec.CommandContext(t.Context(), master.Salt.Python(), "-c", ask, master.ConfigPath(), file)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ask Salt: %v\n%s", err, err.(*exec.ExitError).Stderr)
	}
	hosts := map[string]map[string]string{}
	if err := json.Unmarshal(out, &hosts); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return hosts
}
