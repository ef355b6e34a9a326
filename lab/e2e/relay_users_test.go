package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// command prepares one of Salt's commands on master i. What it prints goes to out.
func (f *relayed) command(i int, name string, args ...string) (cmd *exec.Cmd, out *bytes.Buffer) {
	return f.python(i, append([]string{filepath.Join(filepath.Dir(f.masters[i].Salt.Python()), name), "-c",
		filepath.Dir(f.masters[i].ConfigPath())}, args...)...)
}

func (f *relayed) python(i int, args ...string) (cmd *exec.Cmd, out *bytes.Buffer) {
	cmd, out = exec.Command(f.masters[i].Salt.Python(), args...), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	f.t.Cleanup(func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its group, which is ours
		}
	})
	return cmd, out
}

// externalAuth: what a user may is for the master to say that he asks. The trails of all
// masters have who it was, and on which master.
func (f *relayed) externalAuth() {
	alice := []string{"--auth=auto", "--username=alice", "--password=x"}
	answers, _ := f.salt(0, append(alice, "*", "test.ping")...)
	f.answered(answers, true, f.all()...)
	jid := f.lastJob(0, "test.ping").JID
	f.audited(0, "job carried to other masters", jid, `"user":"alice"`)
	for i := range f.masters[1:] {
		f.audited(i+1, "job published for another master", jid, `"user":"alice"`, `"from":"`+f.masters[0].ID+`"`)
	}
	f.denied(0, append(alice, "*", "state.apply"))
}

// denied: a command is refused, and nothing of it runs anywhere.
func (f *relayed) denied(i int, args []string) {
	f.t.Helper()
	out, err := f.masters[i].TryRun("salt", args...)
	if text := fmt.Sprint(out, err); !strings.Contains(text, "uthentication") &&
		!strings.Contains(text, "uthorization") {
		f.t.Errorf("salt %v: %s", args, text)
	}
	answers, _ := f.salt(i, "*", "test.ping") // a job after it
	f.answered(answers, true, f.all()...)
	f.ranTimes(0)
}

// asNobody is the salt command of the user nobody. The master knows a user by the key
// that it keeps for each one in publisher_acl; which of them the command sends is all
// that depends on who runs it. Becoming nobody would take a Python that nobody may run.
const asNobody = `
import sys, salt.utils.user
salt.utils.user.get_specific_user = lambda: "nobody"
from salt.scripts import salt_main
sys.argv[0] = "salt"
salt_main()
`

// publisherACL: so does publisher_acl, which names users of the host.
func (f *relayed) publisherACL() {
	as := func(args ...string) string {
		cmd, out := f.python(0, append([]string{"-c", asNobody, "-c", filepath.Dir(f.masters[0].ConfigPath()),
			"--out=json", "--static"}, args...)...)
		err := cmd.Run()
		return fmt.Sprint(out, err)
	}
	text := as("*", "test.ping")
	for _, id := range f.all() {
		if !strings.Contains(text, `"`+id+`": true`) {
			f.t.Errorf("%s did not answer nobody: %s", id, text)
		}
	}
	for i := range f.masters[1:] {
		f.audited(i+1, "job published for another master", `"user":"nobody"`, `"from":"`+f.masters[0].ID+`"`)
	}
	if text := as("*", "state.apply"); !strings.Contains(text, "uthentication") &&
		!strings.Contains(text, "uthorization") {
		f.t.Errorf("nobody may apply states: %s", text)
	}
	f.ranTimes(0)
}

// api: salt-api on one master reaches the minions of all.
func (f *relayed) api() {
	cmd, out := f.command(0, "salt-api")
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	url := "http://" + net.JoinHostPort(f.masters[0].Addr, strconv.Itoa(apiPort)) + "/run"
	client := http.Client{Timeout: time.Minute}
	post := func(what map[string]any) (string, error) {
		what["username"], what["password"], what["eauth"] = "api", "x", "auto"
		body, _ := json.Marshal([]any{what})
		request, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return "", err
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept", "application/json")
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		return string(text), err
	}
	f.lab.Eventually(within, "salt-api answers for all minions", func() (bool, string) {
		text, err := post(map[string]any{"client": "local", "tgt": "*", "fun": "test.ping"})
		return err == nil && strings.Count(text, ": true") == len(f.minions), fmt.Sprint(text, err, out)
	})
	if text, err := post(map[string]any{"client": "runner", "fun": "manage.up"}); err != nil ||
		strings.Count(text, "web-") != len(f.minions) {
		f.t.Errorf("manage.up by salt-api: %s, %v", text, err)
	}
}
