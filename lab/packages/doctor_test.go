//go:build packages

package packages

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"phoenix/bridge/doctor"
	"phoenix/lab"
	"phoenix/lab/debian"
)

// examination runs doctor on a Debian, and what it prints.
type examination struct {
	t *testing.T
	r *debian.Root
}

// find returns the worst finding of each check.
func (e examination) find() map[string]doctor.Finding {
	e.t.Helper()
	out, _ := e.r.Try("phoenix doctor --json 2>/dev/null") // 1: it found something
	var list []doctor.Finding
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		e.t.Fatalf("read findings: %v\n%s", err, out)
	}
	worst := map[string]doctor.Finding{}
	for _, f := range list { // the worst come first
		if _, known := worst[f.Check]; !known {
			worst[f.Check] = f
		}
	}
	return worst
}

// heal expects a finding, runs its commands as they are printed, and expects it, and no
// other, to be gone.
func (e examination) heal(check string, severity doctor.Severity) {
	e.t.Helper()
	before := e.find()
	found := before[check]
	if found.Severity != severity || len(found.Commands) == 0 {
		e.t.Fatalf("%s is not %s with commands: %+v", check, severity, found)
	}
	e.t.Logf("%s: %s", check, found.Mend)
	for _, command := range found.Commands {
		e.r.Run(command)
	}
	lab.Eventually(e.t, servedWithin, check+" is as it should be", func() (bool, string) {
		now := e.find()
		for other, f := range now {
			if other != check && before[other].Severity == doctor.OK && f.Severity != doctor.OK {
				return false, f.What
			}
		}
		return now[check].Severity == doctor.OK, now[check].What
	})
}

// TestPrintedFixesWithSystemd: where systemd runs, what doctor prints about services and
// their units does what it is to do.
func TestPrintedFixesWithSystemd(t *testing.T) {
	r := debian.Start(t)
	installSalt(t, r)
	deb, _ := built(t, newer, "amd64")
	text, err := os.ReadFile(deb)
	must(t, err)
	r.Put("/srv/phoenix.deb", string(text))
	e := examination{t, r}

	// The program alone, as one copies it to an existing master.
	r.Run("dpkg-deb --fsys-tarfile /srv/phoenix.deb | tar -xO ./usr/bin/phoenix >/usr/local/bin/phoenix && chmod +x /usr/local/bin/phoenix")
	e.heal("unit", doctor.Warning)
	if out := strings.Fields(r.Run("systemctl show --value -p KillMode -p TimeoutStopUSec salt-minion")); !strings.Contains(strings.Join(out, " "), "process") || !strings.Contains(strings.Join(out, " "), "10s") {
		t.Errorf("systemd has %v", out)
	}
	r.Run("systemctl stop salt-minion")
	e.heal("salt-minion", doctor.Warning)
	r.Run("systemctl stop salt-master")
	e.heal("salt-master", doctor.Error)
	r.Run("rm /usr/local/bin/phoenix && rm -r /etc/systemd/system/salt-minion.service.d && systemctl stop salt-minion && salt-key -y -d web-1")

	// A bridge that has never run, on a master that has accepted nothing.
	r.Run("DEBIAN_FRONTEND=noninteractive dpkg --install /srv/phoenix.deb")
	e.heal("store", doctor.Note)
	r.Run("systemctl is-active phoenix-bridge && phoenix minions add web-1 && systemctl start salt-minion")
	answers := func() {
		t.Helper()
		lab.Eventually(t, servedWithin, "the minion answers", func() (bool, string) {
			out, _ := r.Try("salt --out=txt -t 5 web-1 test.ping")
			return strings.Contains(out, "web-1: True"), out
		})
	}
	answers()
	r.Run("systemctl stop phoenix-bridge")
	e.heal("bridge", doctor.Warning)

	r.Run("echo 'agent: {splay: 1s, settle: 5s}' >>/etc/phoenix/phoenix.yaml && systemctl start phoenix-agent")
	lab.Eventually(t, servedWithin, "the agent has written its list, and the minion runs with it",
		func() (bool, string) {
			out, code := r.Try("cat /etc/salt/minion.d/99-phoenix.conf && ! ls /etc/salt/minion.d/.99-phoenix.restart")
			return code == 0, out
		})
	answers()
	r.Run("systemctl stop phoenix-agent")
	e.heal("agent", doctor.Warning)
	r.Run("systemctl is-active phoenix-agent")

	r.Run("echo no key >/etc/salt/pki/minion/minion_master.pub")
	e.heal("master-key", doctor.Warning)
	answers()
	// Salt writes it with or without a line end
	r.Run("cd /etc/salt/pki && diff <(tr -d '\\n' <minion/minion_master.pub) <(tr -d '\\n' <master/master.pub)")
}
