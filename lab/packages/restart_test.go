//go:build packages

package packages

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"phoenix/lab"
	"phoenix/lab/debian"
)

// installSalt installs master and minion from the repository on loopback, and has the
// minion follow the master on the same machine.
func installSalt(t *testing.T, r *debian.Root) {
	t.Helper()
	url, key := saltRepository(t)
	text, err := os.ReadFile("../../cloudformation/bootstrap/bootstrap.sh")
	must(t, err)
	library, _, _ := strings.Cut(string(text), "\n# shellcheck disable=SC1091")
	r.Put("/srv/library.sh", library)
	r.Run(fmt.Sprintf(". /srv/library.sh && SALT_VERSION=%s SALT_REPOSITORY=%s SALT_KEY_SHA256=%s && install_salt salt-master salt-minion", repositoryVersion, url, key))
	r.Put("/etc/salt/master.d/lab.conf", "interface: 127.0.0.1\n")
	r.Put("/etc/salt/minion.d/lab.conf", "id: web-1\nmaster: 127.0.0.1\ncache_jobs: True\n")
	r.Run("systemctl enable --now salt-master salt-minion")
	lab.Eventually(t, servedWithin, "the minion answers", func() (bool, string) {
		out, _ := r.Try("salt-key -y -a web-1; salt --out=txt -t 5 web-1 test.ping")
		return strings.Contains(out, "web-1: True"), out
	})
}

// TestMinionRestart: what a job of the minion started in the background outlives a
// restart of the minion, and so does a state run that restarts its own minion, as an
// upgrade of its package does. The minion that was is gone, though it may take no notice
// of SIGTERM. A minion that ends by itself is started again, one that is stopped is not.
func TestMinionRestart(t *testing.T) {
	r := debian.Start(t)
	installSalt(t, r)
	background := func(seconds string) {
		t.Helper()
		r.Run("salt web-1 cmd.run_bg 'exec sleep " + seconds + "'")
		lab.Eventually(t, within, "the process runs in the background", func() (bool, string) {
			out, code := r.Try("pgrep -fx 'sleep " + seconds + "'")
			return code == 0, out
		})
	}
	// Salt's own unit: what the test is about does happen.
	background("86398")
	r.Run("systemctl restart salt-minion")
	if _, code := r.Try("pgrep -fx 'sleep 86398'"); code == 0 {
		t.Error("Salt's own unit leaves the background process alone")
	}
	answers := func() {
		t.Helper()
		lab.Eventually(t, servedWithin, "the minion answers", func() (bool, string) {
			out, _ := r.Try("salt --out=txt -t 5 web-1 test.ping")
			return strings.Contains(out, "web-1: True"), out
		})
	}
	deb, _ := built(t, newer, "amd64")
	text, err := os.ReadFile(deb)
	must(t, err)
	r.Put("/srv/phoenix.deb", string(text))
	r.Run("dpkg --install /srv/phoenix.deb && systemctl daemon-reload && systemctl restart salt-minion")
	answers()

	background("86399")
	before := r.Run("systemctl show --value -p MainPID salt-minion; pgrep -P $(systemctl show --value -p MainPID salt-minion)")
	begun := time.Now()
	r.Run("systemctl restart salt-minion")
	t.Logf("a restart took %.1f s", time.Since(begun).Seconds())
	r.Run("pgrep -fx 'sleep 86399'")
	for _, pid := range strings.Fields(before) {
		lab.Eventually(t, 15*time.Second, "a process of the former minion is gone", func() (bool, string) {
			out, code := r.Try("ps -o pid,args -p " + pid)
			return code != 0, out
		})
	}
	answers()

	// A state run that restarts its own minion, and has more to do after that.
	r.Put("/srv/salt/upgrade.sls", `
restart:
  cmd.run: [{name: "sleep 2; systemctl restart salt-minion; sleep 5"}]
rest:
  cmd.run: [{name: "echo did >>/srv/rest", require: [{cmd: restart}]}]
`)
	jid := strings.TrimSpace(r.Run("salt --async --out=txt web-1 state.apply upgrade | sed -n 's/.*job ID: //p'"))
	lab.Eventually(t, within, "the state run goes on after the restart", func() (bool, string) {
		out, _ := r.Try("cat /srv/rest; systemctl status salt-minion --no-pager")
		return strings.HasPrefix(out, "did\n"), jid + out
	})
	answers()
	lab.Eventually(t, within, "its return is in the minion's cache", func() (bool, string) {
		out, _ := r.Try("salt --out=json -t 10 web-1 saltutil.find_cached_job " + jid)
		return strings.Contains(out, `"retcode": 0`) || strings.Contains(out, `"success": true`), out
	})
	// One that ends by itself, with whatever exit code, is started again.
	r.Run("kill $(systemctl show --value -p MainPID salt-minion)")
	lab.Eventually(t, within, "the minion is started again", func() (bool, string) {
		out := r.Run("systemctl show --value -p NRestarts salt-minion")
		return strings.TrimSpace(out) != "0", r.Run("journalctl --no-pager -n 30 -u salt-minion")
	})
	answers()
	// One that is stopped stays so.
	r.Run("systemctl stop salt-minion; sleep 20; ! systemctl is-active salt-minion")
	r.Run("systemctl start salt-minion")
	answers()
	if out := r.Run("cat /srv/rest; pgrep -fxc 'sleep 86399'"); out != "did\n1\n" {
		t.Errorf("at the end: %q", out)
	}
}
