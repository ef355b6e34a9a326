package doctor_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"phoenix/bridge/agent"
	"phoenix/bridge/doctor"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
)

// badMinion sets everything wrong for which doctor prints commands.
const badMinion = "master: [10.0.0.1, 10.0.0.2]\nmaster_type: distributed\nrandom_master: True\nmaster_shuffle: True\nmaster_failback: True\n" +
	"cache_jobs: False\nminion_jid_queue_hwm: 5\nmaster_alive_interval: 0\ntcp_keepalive_idle: 7200\ntcp_keepalive_intvl: 75\ntcp_keepalive_cnt: 9\n" +
	"rejected_retry: False\nretry_dns: 30\ntest: True\nfile_client: local\nstartup_states: highstate\n"

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readMinion(t *testing.T, path string) doctor.Minion {
	t.Helper()
	c, err := salt.ReadMinionConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	return doctor.ReadMinion(c)
}

// fixes are the commands that doctor prints about a minion.
func fixes(m doctor.Minion) (commands []string) {
	for _, f := range doctor.ExamineMinion(m) {
		for _, command := range f.Commands {
			if strings.HasPrefix(command, "echo ") || strings.HasPrefix(command, "mkdir ") {
				commands = append(commands, command)
			}
		}
	}
	return commands
}

// Whatever options the fixes set, the minion sees what its agent writes, before and after
// the agent's first write, with one master at a time and with several.
func TestFixesLeaveWhatTheAgentSets(t *testing.T) {
	for _, hot := range []bool{false, true} {
		for _, first := range []bool{false, true} { // the agent writes before the fixes
			dir := t.TempDir()
			path := filepath.Join(dir, "minion")
			writeFile(t, path, badMinion)
			writeFile(t, filepath.Join(dir, "minion.d", "10-bad.conf"),
				strings.TrimPrefix(badMinion, "master: [10.0.0.1, 10.0.0.2]\n"))
			write := func() {
				t.Helper()
				c, err := salt.ReadMinionConfig(path)
				if err != nil {
					t.Fatal(err)
				}
				master, err := agent.NewMaster(fleet.Master{InstanceID: "a", IPAddr: "10.0.0.9"})
				if err != nil {
					t.Fatal(err)
				}
				list := agent.NewList(master)
				if hot {
					list = list.Hot()
				}
				if _, err := agent.NewDropIn(c).Write(list, agent.Running{}, ""); err != nil {
					t.Fatal(err)
				}
			}
			if first {
				write()
			}
			done := 0
			for range 2 { // retry_dns matters only once the minion fails over
				for _, command := range fixes(readMinion(t, path)) {
					if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
						t.Fatalf("%s: %v: %s", command, err, out)
					}
					done++
				}
			}
			if done < 6 {
				t.Errorf("%d commands", done)
			}
			if !first {
				if again := fixes(readMinion(t, path)); len(again) > 0 {
					t.Errorf("without an agent, after the fixes: %q", again)
				}
				write()
			}
			m := readMinion(t, path)
			for _, f := range doctor.ExamineMinion(m) {
				if f.Check == "drop-in" && f.Severity != doctor.OK ||
					len(f.Commands) > 0 && f.Check != "salt-minion" && f.Check != "agent" {
					t.Errorf("several masters %v, the agent first %v: %+v", hot, first, f)
				}
			}
			for name := range m.DropIn {
				if !slices.Contains(doctor.AgentOptions, name) {
					t.Errorf("the agent sets %s, which doctor does not know", name)
				}
			}
		}
	}
}

// Where another file would win over the file that a fix writes, the fix names the file.
func TestFixNamesTheFileThatWins(t *testing.T) {
	for name, include := range map[string]string{"minion.d/99-z.conf": "", "minion.d/custom.conf": "",
		"more/custom.conf": "include: more/*.conf\n"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "minion")
		writeFile(t, path, "cache_jobs: True\n"+include)
		writeFile(t, filepath.Join(dir, name), "cache_jobs: False\n")
		found := map[string]doctor.Finding{}
		for _, f := range doctor.ExamineMinion(readMinion(t, path)) {
			found[f.Check] = f
		}
		f := found["cache-jobs"]
		if f.Severity != doctor.Warning || len(f.Commands) > 0 || !strings.Contains(f.Mend, filepath.Join(dir, name)) {
			t.Errorf("%s: %+v", name, f)
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "minion")
	writeFile(t, path, "id: web-1\n")
	writeFile(t, filepath.Join(dir, "minion.d", "99-phoenix.conf"), "master: [10.0.0.1]\nmaster_type: failover\n")
	writeFile(t, filepath.Join(dir, "minion.d", "site.conf"), "master_type: str\n")
	for _, f := range doctor.ExamineMinion(readMinion(t, path)) {
		if f.Check == "drop-in" && (f.Severity != doctor.Warning ||
			!strings.Contains(f.Mend, filepath.Join(dir, "minion.d", "site.conf"))) {
			t.Errorf("%+v", f)
		}
	}
}
