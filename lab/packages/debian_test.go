//go:build packages

package packages

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phoenix/lab"
	"phoenix/lab/debian"
)

// within bounds what systemd does in seconds on a machine of its own.
const within = 2 * time.Minute

// TestDebian: the .deb is installed, its services run as the units say, an upgrade
// restarts what runs and nothing else and keeps what the operator wrote, removing it
// keeps the fleet, and purging it leaves nothing.
func TestDebian(t *testing.T) {
	old, _ := built(t, older, "amd64")
	current, _ := built(t, newer, "amd64")
	r := debian.Start(t)
	state := func(unit string) string {
		out, _ := r.Try("systemctl is-enabled " + unit + "; systemctl is-active " + unit)
		return strings.Join(strings.Fields(out), " ")
	}
	install := func(file string) {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r.Put("/srv/phoenix.deb", string(text))
		r.Run("DEBIAN_FRONTEND=noninteractive dpkg --install --force-confold /srv/phoenix.deb")
	}
	property := func(unit, name string) string {
		return strings.TrimSpace(r.Run("systemctl show --value -p " + name + " " + unit))
	}

	install(old)
	if out := r.Run("phoenix --version"); !strings.Contains(out, older) {
		t.Errorf("version: %s", out)
	}
	for _, unit := range []string{"phoenix-bridge", "phoenix-agent"} {
		if s := state(unit); s != "disabled inactive" {
			t.Errorf("%s after the installation: %s", unit, s)
		}
	}
	if out := strings.TrimSpace(r.Run("systemd-analyze verify phoenix-bridge.service phoenix-agent.service 2>&1")); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	// 10 is a service without any bound; under 4 systemd calls it OK.
	r.Run("systemd-analyze security --no-pager --threshold=40 phoenix-bridge.service >/dev/null")
	r.Run("systemd-analyze security --no-pager --threshold=40 phoenix-agent.service >/dev/null")

	// No Salt is there: the bridge waits for its master, and serves meanwhile.
	r.Put("/etc/salt/master", "interface: 127.0.0.1\n")
	r.Put("/etc/salt/minion", "id: web-1\n")
	conf := strings.Replace(r.Run("cat /etc/phoenix/phoenix.yaml"), "#admit: bound", "admit: listed", 1)
	r.Put("/etc/phoenix/phoenix.yaml", conf)
	r.Run("systemctl enable --now phoenix-bridge") // Type=notify: returns when it serves
	if s := state("phoenix-bridge"); s != "enabled active" {
		t.Fatalf("bridge: %s", s)
	}
	r.Run("phoenix minions add web-1")
	pid := property("phoenix-bridge", "MainPID")
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2"} {
		if out := r.Run("cat /proc/" + pid + "/status"); !strings.Contains(out, want) {
			t.Errorf("no %q in the bridge's status:\n%s", want, out)
		}
	}
	if fed := property("phoenix-bridge", "WatchdogTimestampMonotonic"); fed == "0" || fed == "" {
		t.Errorf("the watchdog was not fed: %q", fed)
	}
	if property("phoenix-bridge", "WatchdogUSec") != "1min" || property("phoenix-bridge", "MemoryMax") == "infinity" {
		t.Errorf("watchdog %s, memory %s", property("phoenix-bridge", "WatchdogUSec"),
			property("phoenix-bridge", "MemoryMax"))
	}

	install(current)
	lab.Eventually(t, within, "the bridge runs as the new version", func() (bool, string) {
		now := property("phoenix-bridge", "MainPID")
		out, _ := r.Try("journalctl -u phoenix-bridge --no-pager -o cat")
		return now != pid && now != "0" && strings.Contains(out, "version="+newer), out
	})
	if s := state("phoenix-agent"); s != "disabled inactive" {
		t.Errorf("agent after the upgrade: %s", s)
	}
	if out := r.Run("grep ^admit: /etc/phoenix/phoenix.yaml; phoenix minions list"); !strings.Contains(out,
		"admit: listed") || !strings.Contains(out, "web-1") {
		t.Errorf("after the upgrade: %s", out)
	}
	// Killed by whatever it be, it comes back.
	pid = property("phoenix-bridge", "MainPID")
	r.Run("kill -9 " + pid)
	lab.Eventually(t, within, "the bridge is back", func() (bool, string) {
		now := property("phoenix-bridge", "MainPID")
		return now != pid && now != "0" && state("phoenix-bridge") == "enabled active",
			now + " " + state("phoenix-bridge")
	})
	// The agent, too, runs under its unit; with nobody to turn to it touches nothing.
	r.Run("systemctl start phoenix-agent")
	if s := state("phoenix-agent"); s != "disabled active" {
		t.Errorf("agent: %s", s)
	}

	r.Run("DEBIAN_FRONTEND=noninteractive dpkg --remove phoenix")
	if out, _ := r.Try("pgrep -l phoenix"); out != "" {
		t.Errorf("runs after it was removed: %s", out)
	}
	r.Run("test -s /var/lib/phoenix/fleet.db && test -e /etc/phoenix/phoenix.yaml && test ! -e /usr/bin/phoenix")
	install(current)
	if s := state("phoenix-bridge"); s != "disabled inactive" {
		t.Errorf("bridge after it was installed again: %s", s)
	}
	if out := r.Run("phoenix minions list"); !strings.Contains(out, "web-1") {
		t.Errorf("the fleet is lost: %s", out)
	}
	r.Run("DEBIAN_FRONTEND=noninteractive dpkg --purge phoenix")
	if out := r.Run("find / -xdev -path /proc -prune -o -iname '*phoenix*' -not -path '/srv/*' -not -path '/var/log/*' -not -path '/usr/share/zoneinfo/*' -print"); out != "" {
		t.Errorf("left after it was purged:\n%s", out)
	}
}

// TestRPMKeepsConfiguration: an upgrade leaves what the operator wrote.
func TestRPMKeepsConfiguration(t *testing.T) {
	_, old := built(t, older, "amd64")
	_, current := built(t, newer, "amd64")
	dir := t.TempDir()
	rpm := "rpm --nodeps --noscripts --root " + dir + " "
	sh(t, "rpm --root "+dir+" --initdb && "+rpm+"--install "+old+" && echo 'admit: listed' >>"+dir+
		"/etc/phoenix/phoenix.yaml && "+rpm+"--upgrade "+current)
	if out := sh(t, "rpm --root "+dir+" -q phoenix; tail -n 1 "+dir+"/etc/phoenix/phoenix.yaml"); out != "phoenix-"+
		newer+"-1.x86_64\nadmit: listed\n" {
		t.Errorf("after the upgrade: %q", out)
	}
}

// TestPackagesHold: of each package, what is in it and how. Both kinds hold the same
// files, and each the program of its processor.
func TestPackagesHold(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		deb, rpm := built(t, newer, arch)
		fromRPM, fromDeb := t.TempDir(), t.TempDir()
		// As rpm itself takes it, into a root of its own; scripts need a system in there.
		sh(t, "rpm --root "+fromRPM+" --initdb && rpm --root "+fromRPM+" --install --nodeps --noscripts --ignorearch "+
			rpm+" && rpm --root "+fromRPM+" --verify --nodeps phoenix")
		sh(t, "dpkg-deb --extract "+deb+" "+fromDeb)
		if out := sh(t, "diff -r --exclude=rpm --exclude=root "+fromRPM+" "+fromDeb+" && echo same"); out != "same\n" {
			t.Errorf("%s: %s", arch, out)
		}
		for _, file := range []string{"usr/lib/phoenix/bootstrap", "usr/lib/systemd/system/phoenix-bridge.service",
			"usr/lib/systemd/system/phoenix-agent.service",
			"usr/share/phoenix/salt-extensions/_runners/phoenix.py",
			"usr/share/phoenix/salt-extensions/reactor/start.sls",
			"usr/share/phoenix/salt-extensions/master.d/phoenix.conf", "usr/share/doc/phoenix/README.md",
			"usr/share/doc/phoenix/docs/deploy.md", "etc/phoenix/phoenix.yaml",
			"usr/share/man/man8/phoenix.8", "usr/share/bash-completion/completions/phoenix",
			"usr/share/zsh/vendor-completions/_phoenix"} {
			if _, err := os.Stat(filepath.Join(fromRPM, file)); err != nil {
				t.Errorf("%s: %v", arch, err)
			}
		}
		machine := map[string]string{"amd64": "X86-64", "arm64": "AArch64"}[arch]
		if out := sh(t, "readelf -h "+fromRPM+"/usr/bin/phoenix | grep Machine; readelf -d "+fromRPM+
			"/usr/bin/phoenix"); !strings.Contains(out, machine) || strings.Contains(out, "NEEDED") {
			t.Errorf("%s: %s", arch, out)
		}
		// It runs, the store in it included; arm64's in an emulator.
		run := map[string]string{"amd64": "", "arm64": "qemu-aarch64-static "}[arch] + fromRPM +
			"/usr/bin/phoenix --store sqlite:" + t.TempDir() + "/fleet.db minions "
		if out := sh(t, run+"add web-1 >/dev/null && "+run+"list"); !strings.Contains(out, "web-1") {
			t.Errorf("%s: %s", arch, out)
		}
		if out := sh(t, "rpm -qp --configfiles --queryformat '%{NAME} %{VERSION}\\n' "+
			rpm); out != "phoenix 0.2\n/etc/phoenix/phoenix.yaml\n" &&
			out != "/etc/phoenix/phoenix.yaml\nphoenix 0.2\n" {
			t.Errorf("%s: %q", arch, out)
		}
		if out := sh(t, "rpm -qp --queryformat '[%{FILEMODES:perms} %{FILEUSERNAME} %{FILENAMES} %{FILEFLAGS:fflags}\\n]' "+rpm); !strings.Contains(out, "-rwxr-xr-x root /usr/bin/phoenix \n") || !strings.Contains(out, "-rw-r--r-- root /etc/phoenix/phoenix.yaml cn\n") {
			t.Errorf("%s: %s", arch, out)
		}
		if out := sh(t, "rpm -Kv --nosignature "+rpm+" && rpm -qp --scripts "+rpm); strings.Contains(out, "BAD") ||
			!strings.Contains(out, "try-restart") || strings.Contains(out, "systemctl enable") {
			t.Errorf("%s: %s", arch, out)
		}
	}
}
