package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"phoenix/lab"
)

// What an admin sees of a real master: its events, and what was decided, after the
// bridge that decided it is gone.
func TestAdminSeesEventsAndDecisions(t *testing.T) {
	t.Parallel()
	for _, version := range versions(lab.Salt3008) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			root, err := lab.Root()
			if err != nil {
				t.Fatal(err)
			}
			socket := filepath.Join(l.Dir(), "bridge.sock")
			master := l.StartMaster(lab.MasterOptions{Version: version, Extra: map[string]any{
				"runner_dirs": []string{filepath.Join(root, "salt-extensions", "_runners")},
				"phoenix":     map[string]string{"socket": socket}}})
			bridge := l.NewBridge(lab.BridgeOptions{Master: master, Config: map[string]any{"socket": socket}})
			master.Ready()
			bridge.Start()
			bridge.Ready()
			f := fixture{l, master, bridge}

			start := f.listen(t, "--tag", "salt/minion/?eb-*/start", "--count=1")
			odd := f.listen(t, "--tag", "phoenix/[!a]dd/*", "--count=1")
			bridge.Phoenix("minions", "add", "web-1")
			minion := l.StartMinion(lab.MinionOptions{ID: "web-1", Masters: []*lab.Master{master}})
			f.ran(t, minion, 1)
			if e := start.wait(t); e.Tag != "salt/minion/web-1/start" || e.Data["id"] != "web-1" ||
				e.Data["_stamp"] == nil {
				t.Errorf("start is told as %+v", e)
			}
			// Listeners come and go: fire until this one has heard.
			l.Eventually(within, "the odd event is heard", func() (bool, string) {
				f.fire(t)
				return odd.over(), "not yet"
			})
			f.isOdd(t, odd.wait(t))

			f.explainedBySalt(t)
			bridge.Kill() // as a crash
			f.explained(t)
		})
	}
}

// heardEvent is an event as phoenix events --json prints it.
type heardEvent struct {
	Tag  string
	Data map[string]any
}

// eventsCommand is a phoenix events that runs.
type eventsCommand struct {
	cmd       *exec.Cmd
	out, errs bytes.Buffer
	done      chan struct{}
}

func (f fixture) listen(t *testing.T, args ...string) *eventsCommand {
	t.Helper()
	binary, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	x := &eventsCommand{done: make(chan struct{})}
	x.cmd = exec.Command(binary, append([]string{"--config", f.bridge.ConfigPath(), "events", "--json", "--timeout",
		within.String()}, args...)...)
	x.cmd.Stdout, x.cmd.Stderr = &x.out, &x.errs
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = x.cmd.Wait() // how it ended stands in ProcessState
		close(x.done)
	}()
	t.Cleanup(func() { _ = x.cmd.Process.Kill(); <-x.done })
	return x
}

func (x *eventsCommand) over() bool {
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}

// wait returns the one event that it heard.
func (x *eventsCommand) wait(t *testing.T) (e heardEvent) {
	t.Helper()
	<-x.done // it has a time-out of its own
	if x.cmd.ProcessState.ExitCode() != 0 || x.errs.Len() > 0 {
		t.Fatalf("phoenix events: %v\n%s%s", x.cmd.ProcessState, &x.out, &x.errs)
	}
	if err := json.Unmarshal(x.out.Bytes(), &e); err != nil {
		t.Fatalf("%v: %s", err, &x.out)
	}
	return e
}

// fire puts an event on the master's bus whose data has all that JSON lacks.
func (f fixture) fire(t *testing.T) {
	t.Helper()
	script := `
import datetime, sys
import salt.config, salt.utils.event
opts = salt.config.master_config(sys.argv[1])
with salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=False) as bus:
    bus.fire_event({"when": datetime.datetime(2024, 2, 29, 12, 30, 15, 123456), "raw": b"\xff\x00", "text": b"abc",
        7: {True: None, "big": 2**64 - 1}, "list": (1, 2.5, "\x1b[2J")}, "phoenix/odd/tag")
`
	cmd := exec.Command(f.master.Salt.Python(), "-c", script, f.master.ConfigPath())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("fire event: %v\n%s", err, out)
	}
}

func (f fixture) isOdd(t *testing.T, e heardEvent) {
	t.Helper()
	delete(e.Data, "_stamp")
	text, err := json.Marshal(e.Data)
	want := `{"7":{"big":"18446744073709551615","true":null},"list":[1,2.5,"\u001b[2J"],"raw":"/wA=","text":"abc","when":"20240229T12:30:15.123456"}`
	if err != nil || e.Tag != "phoenix/odd/tag" || string(text) != want {
		t.Errorf("%s is told as\n%s, not\n%s", e.Tag, text, want)
	}
}

// explainedBySalt: the runner tells what the command does.
func (f fixture) explainedBySalt(t *testing.T) {
	t.Helper()
	var bySalt, byCommand map[string]any
	f.bridge.JSON(&byCommand, "minions", "explain", "web-1", "--lines=2")
	out := f.master.Run("salt-run", "--out=json", "phoenix.explain", "web-1", "lines=2")
	if err := json.Unmarshal([]byte(out), &bySalt); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if lines, _ := bySalt["audit"].([]any); len(lines) != 2 || !reflect.DeepEqual(bySalt, byCommand) {
		t.Errorf("salt-run tells\n%v, the command\n%v", bySalt, byCommand)
	}
}

// explained: without a bridge, what one decided is still told, and an admin's word.
func (f fixture) explained(t *testing.T) {
	t.Helper()
	type line struct{ Time, Msg, Minion, Master, JID, By string }
	var x struct {
		Standing string
		Audit    []line
	}
	f.bridge.Phoenix("minions", "add", "db-1")
	f.bridge.Phoenix("minions", "retire", "db-1")
	for id, want := range map[string][]string{
		"web-1": {"minion added by hand", "key accepted", "highstate claimed", "highstate published",
			"highstate succeeded"},
		"db-1": {"minion added by hand", "minion retired by hand"},
	} {
		x.Audit = nil
		f.bridge.JSON(&x, "minions", "explain", id)
		var said []string
		for _, l := range x.Audit {
			said = append(said, l.Msg)
			byHand := strings.HasSuffix(l.Msg, "by hand")
			if l.Minion != id || l.Time == "" || byHand != (l.By != "") || byHand == (l.Master == f.master.ID) {
				t.Errorf("%s: %+v", id, l)
			}
		}
		if !slices.Equal(said, want) {
			t.Errorf("of %s was decided %q, not %q", id, said, want)
		}
		text := f.bridge.Phoenix("minions", "explain", id, "-n", "1")
		if last := want[len(want)-1]; !strings.Contains(text, last) ||
			len(want) > 1 && strings.Contains(text, want[0]) {
			t.Errorf("the last line of %s:\n%s", id, text)
		}
	}
	if trail, err := filepath.Glob(filepath.Join(f.lab.Dir(), "audit.log*")); err != nil || len(trail) != 1 {
		t.Error(fmt.Errorf("beside the store: %v, %w", trail, err))
	}
}
