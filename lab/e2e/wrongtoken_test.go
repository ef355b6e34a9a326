package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"phoenix/bridge/fleet"
	"phoenix/lab"
	"phoenix/lab/awsproxy"
)

// TestRefreshWithWrongToken: a group of masters is refreshed, and the new launch
// template has a token that the git server does not take. The new master never becomes
// ready, status and doctor say what is missing, its launching hook is never let go, and
// so the old master stays: AutoScaling terminates it only after that. Once the server
// takes the token, the refresh goes on by itself.
//
// Moto knows no instance refresh and keeps no instance waiting: that the new one stands
// in Pending:Wait, and that AutoScaling takes the end of the hook, comes from the awsproxy.
func TestRefreshWithWrongToken(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	remote := newGitServer(t, "right")
	c := newCloud(t)
	ids := c.group("salt", 2)
	c.hook("salt", "phoenix-launching", "LAUNCHING")
	started, refreshed := ids[0], ids[1]
	c.api.Answer(func(call awsproxy.Call) *awsproxy.Answer {
		switch {
		case call.Action == "CompleteLifecycleAction", call.Action == "RecordLifecycleActionHeartbeat":
			return &awsproxy.Answer{Status: 200}
		case call.Action == "DescribeAutoScalingInstances" && call.Mentions(refreshed):
			return &awsproxy.Answer{Status: 200,
				Body: `<DescribeAutoScalingInstancesResponse><DescribeAutoScalingInstancesResult><AutoScalingInstances><member>` +
					`<InstanceId>` + refreshed + `</InstanceId><AutoScalingGroupName>salt</AutoScalingGroupName><LifecycleState>Pending:Wait</LifecycleState>` +
					`</member></AutoScalingInstances></DescribeAutoScalingInstancesResult></DescribeAutoScalingInstancesResponse>`}
		}
		return nil
	})
	start := func(id, token string, key *lab.Master) *lab.Bridge {
		master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007, KeyFrom: key, Extra: map[string]any{
			"fileserver_backend": []string{"git"}, "gitfs_provider": "gitpython", "gitfs_base": "main",
			"gitfs_remotes": []string{remote.url(token)}, "fileserver_list_cache_time": 1}})
		master.Ready()
		saltRun := filepath.Join(filepath.Dir(master.Salt.Python()), "salt-run")
		b := c.bridgeWith(l, master, append(c.instance(id), "PATH="+filepath.Dir(saltRun)+":"+os.Getenv("PATH")),
			map[string]any{
				"ready": map[string]any{"top": []string{"base/top.sls"},
					"command": []string{saltRun, "--config-dir=" + filepath.Dir(master.ConfigPath()),
						"fileserver.update"}}})
		b.Start()
		return b
	}
	row := func(id string) (m fleet.Master) {
		t.Helper()
		rows, err := c.store.Masters(t.Context())
		c.must(err)
		for _, r := range rows {
			if r.InstanceID == id {
				m = r
			}
		}
		return m
	}
	old := start(started, "right", nil)
	old.Ready()

	c.publish(held("LAUNCHING", refreshed, "salt", "phoenix-launching"))
	fresh := start(refreshed, "wrong", old.Master)
	const missing, why = "base/top.sls (ready.top): the file server has 0 files", "Authentication failed"
	l.Eventually(within, "status says what is missing", func() (bool, string) {
		text, _, _ := fresh.Try("status")
		return strings.Contains(text, "NOT READY: ") && strings.Contains(text, missing) && strings.Contains(text, why),
			text + fresh.Tail()
	})
	if text, _, code := fresh.Try("doctor"); code == 0 || !strings.Contains(text, missing) ||
		!strings.Contains(text, why) {
		t.Errorf("doctor, exit %d:\n%s", code, text)
	}
	if remote.refused.Load() == 0 {
		t.Error("the git server was not asked with the wrong token")
	}
	l.Never(45*time.Second, "the refresh goes on with a master that has no states", func() (bool, string) {
		was, is := row(started), row(refreshed)
		return c.api.Count("autoscaling:CompleteLifecycleAction") > 0 || is.Ready || !was.Ready || was.Draining ||
				was.Status != fleet.Launch,
			fmt.Sprintf("%+v\n%+v\n%s", was, is, fresh.Tail())
	})

	remote.token.Store("wrong")
	l.Eventually(within, "the master is ready, and its hook is let go", func() (bool, string) {
		return row(refreshed).Ready && c.api.Count("autoscaling:CompleteLifecycleAction") > 0,
			fmt.Sprintf("%+v\n%s", row(refreshed), fresh.Tail())
	})
	for _, call := range c.api.Calls() {
		if call.Action == "CompleteLifecycleAction" && (!call.Mentions("CONTINUE") || !call.Mentions(refreshed)) {
			t.Errorf("%+v", call)
		}
	}
}

// gitServer serves a repository of states by HTTP, to whoever has the token.
type gitServer struct {
	address string
	token   atomic.Value
	refused atomic.Int64
}

func newGitServer(t *testing.T, token string) *gitServer {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"top.sls": "base: {'*': [first]}\n",
		"first.sls": "first: {test.nop: []}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-qm", "states"},
		{"update-server-info"}} {
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=lab", "-c", "user.email=lab@localhost"},
			args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	g := &gitServer{}
	g.token.Store(token)
	files := http.FileServer(http.Dir(filepath.Join(dir, ".git")))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != g.token.Load() {
			if password != "" {
				g.refused.Add(1)
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="states"`)
			http.Error(w, "401 - Unauthorized", http.StatusUnauthorized)
			return
		}
		http.StripPrefix("/states.git", files).ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	g.address = strings.TrimPrefix(server.URL, "http://")
	return g
}

func (g *gitServer) url(token string) string {
	return "http://token:" + token + "@" + g.address + "/states.git"
}
