package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/admin"
	"phoenix/bridge/api"
	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
	"phoenix/bridge/lastrun"
	"phoenix/bridge/salt"
)

// The last state run of each minion: what the bridge has seen, and else the first
// highstate in the row, whichever is later.
func TestLastRuns(t *testing.T) {
	a := newAsker(t)
	began := time.Now().Add(-3 * time.Hour)
	jid := salt.NewJID(began, "")
	ran := func(id string, outcome fleet.Outcome, retcode int) {
		a.apply(fleet.Add{InstanceID: id}, fleet.Bind{InstanceID: id, KeySHA256: strings.Repeat("a", 64)},
			fleet.Claim{InstanceID: id, Owner: "salt-2", JID: jid, Attempt: 1},
			fleet.Finish{InstanceID: id, JID: jid, Outcome: outcome, Retcode: retcode})
	}
	ran("web-1", fleet.Succeeded, 0)
	ran("web-2", fleet.Succeeded, 0)
	ran("web-3", fleet.Erred, 2)
	a.apply(fleet.Add{InstanceID: "web-4"}, fleet.Add{InstanceID: "old-1"}, fleet.Retire{InstanceID: "old-1"})
	for _, line := range strings.Split(a.says(exitOK, "minions list --last-run", "note: shown are runs that "), "\n") {
		if len([]rune(line)) > 80 && !strings.HasPrefix(line, "phoenix:") && !strings.Contains(line, "note") {
			t.Errorf("more than 80 characters: %q", line)
		}
	}

	runs := lastrun.New(func(string) bool { return true })
	returns := func(id, jid string, retcode int, body any, args ...any) {
		data, err := msgpack.Marshal(map[string]any{"id": id, "jid": jid, "fun": "state.apply", "fun_args": args,
			"retcode": retcode, "success": retcode == 0, "return": body})
		if err != nil {
			t.Fatal(err)
		}
		e, err := event.SplitBody(append([]byte("salt/job/"+jid+"/ret/"+id+"\n\n"), data...))
		if err != nil {
			t.Fatal(err)
		}
		runs.Event(e)
	}
	states := map[string]any{}
	for i := range 5 {
		name := fmt.Sprintf("a state with a rather long name %d", i)
		states["file_|-"+name+"_|-/etc/x_|-managed"] = map[string]any{"result": false, "changes": map[string]any{},
			"__id__": name}
	}
	returns("web-1", "20260101000000000009", 2, states)
	returns("web-4", "20260101000000000008", 0, map[string]any{}, map[string]any{"__kwarg__": true, "test": true})
	l, err := api.Listen(filepath.Join(a.dir, "s"), -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- api.Serve(ctx, l, api.Bridge{Status: func(bool) any { return nil }, Runs: func(of, after string) any {
			if of != "" {
				return runs.Of(of)
			}
			return runs.After(after)
		}})
	}()
	t.Cleanup(func() { stop(); <-done })

	out := a.says(exitOK, "minions list --last-run",
		"note: shown are runs that the bridge of this machine has read since "+admin.Clock(runs.After("").Since))
	for id, want := range map[string]string{
		"web-1": "state.apply failed 0s 5: a state with a rather long name 0, a state with a rather long name 1, a state with a rather long name 2, …", "web-2": "state.highstate succeeded 3h0m -",
		"web-3": "state.highstate failed 3h0m ran on salt-2", "web-4": "state.apply succeeded 0s (test)",
	} {
		if line := lineOf(out, id); secondsAge.ReplaceAllString(strings.Join(strings.Fields(line)[1:], " "),
			" 0s ") != want {
			t.Errorf("%q, not %q", line, want)
		}
	}
	if strings.Contains(out, "old-1") {
		t.Errorf("one that is terminated: %s", out)
	}
	a.says(exitOK, "minions list --last-run --wide",
		"5: a state with a rather long name 0, a state with a rather long name 1, a state with a rather long name 2, …")
	if out := a.says(exitOK, "minions list --last-run --outcome failed web-*"); strings.Count(out, "failed") != 2 ||
		strings.Contains(out, "web-2") {
		t.Errorf("failed alone: %s", out)
	}
	var rows []admin.LastRun
	if err := json.Unmarshal([]byte(a.says(exitOK, "minions list --last-run --json")), &rows); err != nil ||
		len(rows) != 4 {
		t.Fatalf("%v: %+v", err, rows)
	}
	for _, r := range rows {
		if r.Since == nil || !r.Since.Equal(runs.After("").Since) {
			t.Errorf("known since %v", r.Since)
		}
		if r.InstanceID == "web-1" && (r.Run == nil || r.Run.Failed != 5 || len(r.Run.Names) != 3 ||
			r.KeySHA256 == "") {
			t.Errorf("%+v, %+v", r.Minion, r.Run)
		}
	}
	// What the bridge has not seen is in the job cache of this master, of few minions.
	a.cached("web-2", "20260101000000000077", "state.sls",
		map[string]any{"return": map[string]any{"test_|-b_|-b_|-nop": map[string]any{"result": false,
			"changes": map[string]any{}, "__id__": "b"}}, "retcode": 2, "success": false})
	out = a.says(exitOK, "minions list --last-run web-2",
		", or are in the job cache of this master, or were first highstates, of any master")
	if line := strings.Join(strings.Fields(lineOf(out, "web-2"))[1:], " "); !strings.HasPrefix(line,
		"state.sls failed ") || !strings.HasSuffix(line, " 1: b") {
		t.Errorf("%q", line)
	}
	a.says(exitOK, "minions explain web-2", "last run   state.sls failed ",
		"job 20260101000000000077, 1 state failed: b")
	a.says(exitUsage, "minions list --outcome failed", "--outcome needs --last-run")
	a.says(exitUsage, "minions list --last-run --outcome bad", "none of succeeded, failed, none")
	out = a.says(exitOK, "minions explain web-1", "last run   state.apply failed ")
	if !strings.Contains(out, " ago, job 20260101000000000009, 5 states failed: a state with a rather long name 0") {
		t.Error(out)
	}
	a.says(exitOK, "minions explain web-3", "last run   state.highstate failed 3h0m ago, job "+jid)
}

// cached writes a job and a return of it into the job cache of the master.
func (a asker) cached(id, jid, fun string, returned map[string]any) {
	a.t.Helper()
	folder := filepath.Join(a.dir, "var/cache/salt/master/jobs/00", jid)
	for name, value := range map[string]any{".load.p": map[string]any{"jid": jid, "fun": fun, "arg": []any{}},
		id + "/return.p": returned} {
		raw, err := msgpack.Marshal(value)
		if err == nil {
			err = os.MkdirAll(filepath.Join(folder, filepath.Dir(name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name), raw, 0o600)
		}
		if err != nil {
			a.t.Fatal(err)
		}
	}
}

// secondsAge is an age of so many seconds: the test takes some itself.
var secondsAge = regexp.MustCompile(` [0-9]+s `)

func lineOf(out, id string) string {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, id+" ") {
			return strings.TrimRight(line, "\n")
		}
	}
	return id
}

// Explain names the states that failed in words after the job's id.
func TestStatesOfARun(t *testing.T) {
	for want, r := range map[string]lastrun.Run{
		"":                               {Outcome: lastrun.Succeeded, Text: "ok"},
		", 1 state failed: broken-pkg":   {Failed: 1, Names: []string{"broken-pkg"}},
		", 3 states failed: a, b, …":     {Failed: 3, Names: []string{"a", "b"}},
		", as a test, 1 state failed: a": {Failed: 1, Names: []string{"a"}, Test: true},
		": Rendering SLS failed":         {Outcome: lastrun.Failed, Text: "Rendering SLS failed"},
	} {
		if got := statesOf(&r); got != want {
			t.Errorf("%+v: %q, not %q", r, got, want)
		}
	}
}
