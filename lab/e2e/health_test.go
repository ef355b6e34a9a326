package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/lab"
)

// unreadyWithin bounds how long a master that does not serve is called ready: 15 s
// without a proof, and up to five since the last one.
const unreadyWithin = 20 * time.Second

// TestMasterThatOnlyLooksAlive: salt-master is killed, and stopped, while the bridge
// beside it lives. Its row says so, its claim on a hot minion is taken over, the
// highstate runs once, and it comes back by itself.
func TestMasterThatOnlyLooksAlive(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			l := lab.New(t)
			first := l.StartMaster(lab.MasterOptions{Version: version})
			first.Ready()
			second := l.StartMaster(lab.MasterOptions{Version: version, KeyFrom: first})
			address := net.JoinHostPort(l.Addr(), strconv.Itoa(l.RetPort))
			config := map[string]any{"http_listen": address, "highstate": map[string]any{"lease": lease.String()}}
			owner := l.NewBridge(lab.BridgeOptions{Master: first, Config: config})
			spared := l.NewBridge(lab.BridgeOptions{Master: second,
				Config: map[string]any{"highstate": map[string]any{"lease": lease.String()}}})
			second.Ready()
			owner.Start()
			owner.Ready()
			h := half{hot: hot{l, owner, spared}, t: t, address: address}
			h.fail("killed", "web-1", func() { first.Kill() }, func() { first.Start() })
			h.fail("stopped", "web-2", func() { first.Signal(syscall.SIGSTOP) },
				func() { first.Signal(syscall.SIGCONT) })
		})
	}
}

// half is a master that dies without its bridge.
type half struct {
	hot
	t       *testing.T
	address string // of the owner's metrics and health
}

// row is a master's row, as the other master's bridge reads it.
func (h half) row(of *lab.Bridge) fleet.Master {
	h.t.Helper()
	var rows []fleet.Master
	h.spared.JSON(&rows, "masters", "list")
	i := slices.IndexFunc(rows, func(m fleet.Master) bool { return m.InstanceID == of.Master.ID })
	if i < 0 {
		h.t.Fatalf("no row of %s: %+v", of.Name, rows)
	}
	return rows[i]
}

func (h half) fail(how, minion string, end, back func()) {
	t := h.t
	t.Helper()
	h.spared.Stop() // who claims is not left to chance
	m := h.start(map[string]lab.State{minion: {Hold: true, Seconds: 3}})[0]
	h.lab.Eventually(within, "the highstate has begun",
		func() (bool, string) { return m.Runs() == 1, fmt.Sprintf("%+v", h.spared.Minions()) })
	h.spared.Start()
	ended := time.Now()
	end()
	m.Release()
	h.lab.Eventually(time.Minute, "the row of a master that was "+how+" is not ready", func() (bool, string) {
		row := h.row(h.owner)
		return !row.Ready, fmt.Sprintf("%+v", row)
	})
	// When it found out, not when this test saw it on a busy machine.
	lines := h.owner.Grep(`msg="not ready"`)
	unready := lab.LoggedAt(t, lines[len(lines)-1]).Sub(ended)
	if unready > unreadyWithin {
		t.Errorf("%s: not ready after %v", how, unready)
	}
	if status, text := scrape(t, h.address, "/readyz"); status != http.StatusServiceUnavailable ||
		!strings.Contains(text, "master") && !strings.Contains(text, "bus") {
		t.Errorf("%s: /readyz: %d %s", how, status, text)
	}
	if status, text := scrape(t, h.address, "/healthz"); status != http.StatusOK {
		t.Errorf("%s: /healthz: %d %s", how, status, text)
	}
	if text := h.owner.Phoenix("status"); !strings.Contains(text, "NOT READY: ") {
		t.Errorf("%s: status says\n%s", how, text)
	}
	if out, _, code := h.owner.Try("doctor"); code == 0 || !strings.Contains(out, "does not serve") {
		t.Errorf("%s: doctor, exit %d:\n%s", how, code, out)
	}
	row := h.ranOnce(t, takeover, []*lab.Minion{m})[minion]
	t.Logf("%s: not ready after %.0f s; the highstate on record by the other master after %.0f s", how,
		unready.Seconds(), time.Since(ended).Seconds())
	if row.ClaimOwner != h.spared.Master.ID || row.HighstateRunner != h.spared.Master.ID {
		t.Errorf("%s: the claim was not taken over: %+v", how, row)
	}
	beats := h.row(h.owner).Heartbeat
	back()
	began := time.Now()
	h.lab.Eventually(within, "the master is ready again by itself", func() (bool, string) {
		row := h.row(h.owner)
		return row.Ready, fmt.Sprintf("%+v\n%s", row, h.owner.Tail())
	})
	t.Logf("%s: ready again %.0f s after its master was back", how, time.Since(began).Seconds())
	if status, text := scrape(t, h.address, "/readyz"); status != http.StatusOK {
		t.Errorf("%s: back, /readyz: %d %s", how, status, text)
	}
	if now := h.row(h.owner); now.Heartbeat <= beats || !h.row(h.spared).Ready {
		t.Errorf("%s: %+v", how, now)
	}
	h.ranOnce(t, within, []*lab.Minion{m})
}

// TestReadyGate: a master whose states are in a git repository that cannot be
// fetched never becomes ready, though salt-run fileserver.update exits 0; status and
// doctor say what is missing. Once the repository is there, it becomes ready.
func TestReadyGate(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3007) {
		t.Run(version, func(t *testing.T) {
			l := lab.New(t)
			repository := filepath.Join(l.Dir(), "states.git")
			pillar := filepath.Join(l.Dir(), "pillar")
			master := l.StartMaster(lab.MasterOptions{Version: version, Extra: map[string]any{
				"fileserver_backend": []string{"git"}, "gitfs_provider": "gitpython",
				"gitfs_remotes": []string{"file://" + repository}, "gitfs_base": "main",
				"pillar_roots":               map[string]any{"base": []string{pillar}},
				"fileserver_list_cache_time": 1,
			}})
			master.Ready()
			saltRun := filepath.Join(filepath.Dir(master.Salt.Python()), "salt-run")
			bridge := l.StartBridge(lab.BridgeOptions{Master: master,
				Env: []string{"PATH=" + filepath.Dir(saltRun) + ":" + os.Getenv("PATH")},
				Config: map[string]any{"ready": map[string]any{
					"command": []string{saltRun, "--config-dir=" + filepath.Dir(master.ConfigPath()),
						"fileserver.update"},
					"top": []string{"base/top.sls"}, "pillar": []string{"probe", "os=Debian"}}}})
			says := func(what string) {
				t.Helper()
				l.Eventually(within, "status says "+what, func() (bool, string) {
					text, _, _ := bridge.Try("status") // a bridge that has just begun has no store yet
					return strings.Contains(text, "NOT READY: ") && strings.Contains(text, what), text
				})
				if out, _, _ := bridge.Try("doctor"); !strings.Contains(out, what) {
					t.Errorf("doctor does not say %q:\n%s", what, out)
				}
				var rows []fleet.Master
				if bridge.JSON(&rows, "masters", "list"); rows[0].Ready {
					t.Errorf("ready all the same: %+v", rows[0])
				}
			}
			git := func(args ...string) {
				t.Helper()
				cmd := exec.Command("git", append([]string{"-C", repository, "-c", "user.name=lab", "-c",
					"user.email=lab@localhost"}, args...)...)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("git %v: %v\n%s", args, err, out)
				}
			}
			put := func(dir, name, text string) {
				t.Helper()
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			says("base/top.sls (ready.top): the file server has 0 files")
			put(repository, "first.sls", "first: {test.nop: []}\n")
			git("init", "-q", "-b", "main")
			git("add", ".")
			git("commit", "-qm", "without a top file")
			says("base/top.sls (ready.top): the file server has 1 files")
			put(repository, "top.sls", "base: {'*': [first]}\n")
			git("add", ".")
			git("commit", "-qm", "with a top file")
			says("(ready.pillar): it is empty")
			put(pillar, "top.sls", "base: {'*': [broken]}\n")
			put(pillar, "broken.sls", "a: {{ salt['nosuch.function']() }}\n")
			says("(ready.pillar): [Rendering SLS 'broken' failed")
			put(pillar, "broken.sls", "a: {{ grains['os'] }}\n")
			bridge.Ready()
		})
	}
}
