package cli

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/service"
)

// What a caller says is a command of the list, its flags and operands: never a
// setting, and never another command.
func TestOnlyOfferedCommandLinesAreRun(t *testing.T) {
	for args, want := range map[string]string{
		"status":                              "phoenix status --json --",
		"minions add web-1 web-2":             "phoenix minions add --json -- web-1 web-2",
		"minions add --again web-1":           "phoenix minions add --again --json -- web-1",
		"minions add web-1 --group=web":       "phoenix minions add --group=web --json -- web-1",
		"minions list --status=LAUNCH":        "phoenix minions list --status=LAUNCH --json --",
		"":                                    "",
		"bridge":                              "",
		"minions":                             "",
		"minions explode":                     "",
		"highstate run --wait=1h web-1":       "",
		"status --watch":                      "",
		"status --store=sqlite:/etc/passwd":   "",
		"status --config /etc/shadow":         "",
		"--config /etc/shadow status":         "",
		"minions add -":                       "",
		"minions add -again web-1":            "",
		"minions retire --unknown -- --store": "",
	} {
		line, err := offeredLine(strings.Fields(args))
		if got := strings.Join(line, " "); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", args, got, err)
		}
	}
}

// The list names commands that are there, and flags that they have.
func TestOfferedCommandsAreThere(t *testing.T) {
	app := newApp(nil, nil)
	for name, flags := range offered {
		commands := app.Commands
		var found *cli.Command
		for _, word := range strings.Fields(name) {
			if found = find(word, commands); found == nil {
				break
			}
			commands = found.Subcommands
		}
		if found == nil {
			t.Errorf("there is no %q", name)
			continue
		}
		for _, flag := range append(flags, "json") {
			if !has(found.Flags, flag) {
				t.Errorf("%q has no --%s", name, flag)
			}
		}
	}
}

// A command that the socket runs uses the bridge's store, ends as it would in a
// process of its own, and leaves the store open.
func TestCommandsRunInTheBridge(t *testing.T) {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	cfg := config.Default()
	cfg.Store, cfg.Socket, cfg.SaltConfig = "sqlite:/nowhere/fleet.db", "/nowhere/bridge.sock", "/nowhere/master"
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	run := command(cfg, store)
	for _, step := range []struct {
		args string
		code int
		says string // in the answer, or as the error
	}{
		{"minions add web-1 web-2", exitOK, `"instanceid":"web-2"`},
		{"minions retire web-2 web-3", exitNotFound, "retire web-3: "},
		{"minions retire web-2", exitOK, `"status":"TERMINATE"`},
		{"minions list --status=LAUNCH", exitOK, `"instanceid":"web-1"`},
		{"minions list --status=wrong", exitUsage, "neither LAUNCH nor TERMINATE"},
		{"minions add */*", exitUsage, "id_pattern"},
		{"highstate list", exitOK, "web-1"},
		{"masters list", exitOK, "[]"},
		{"keys list", exitUsage, "salt_config"},
		{"doctor --quiet", exitFailed, `"check":"salt-config"`},
	} {
		answer, err := run(t.Context(), strings.Fields(step.args))
		if err != nil {
			t.Fatalf("%s: %v", step.args, err)
		}
		told, err := json.Marshal(answer.Answer)
		if err != nil {
			t.Fatalf("%s: answer is no JSON: %q", step.args, answer.Answer)
		}
		if answer.Code != step.code || !strings.Contains(string(told)+answer.Error, step.says) || (step.code == exitOK) != (answer.Error == "") {
			t.Errorf("%s: exit %d: %s %s", step.args, answer.Code, told, answer.Error)
		}
		if strings.HasPrefix(answer.Error, "phoenix: ") || strings.Contains(answer.Error, "\n") {
			t.Errorf("%s: error is told as %q", step.args, answer.Error)
		}
	}
	if _, err := store.Minion(context.Background(), "web-1"); err != nil {
		t.Errorf("the bridge's store does not answer any more: %v", err)
	}
	if row, err := store.Minion(t.Context(), "web-2"); err != nil || row.Status != fleet.Terminate {
		t.Errorf("%+v, %v", row, err)
	}
}

func TestSeveralAnswersBecomeAList(t *testing.T) {
	for printed, want := range map[string]string{
		"":             "",
		"{\"a\": 1}\n": `{"a": 1}`,
		"1\n2\n":       "[1,2]",
		"a: text\n":    `"a: text\n"`,
	} {
		if got := string(asJSON([]byte(printed))); got != want {
			t.Errorf("%q: %s", printed, got)
		}
	}
}

// An event that the reactor tells is held to what one of the bus is held to.
func TestHintsAreEventsOfTheBus(t *testing.T) {
	for _, h := range []struct {
		tag, data string
		wakes     bool
		fault     string
	}{
		{tag: "salt/auth", data: `{"id": "web-1", "act": "pend"}`, wakes: true},
		{tag: "salt/auth", data: `{"id": "web-1"}`, wakes: true},
		{tag: "salt/auth", data: `{"id": "web-1", "act": "accept"}`},
		{tag: "salt/key", data: `{"id": "web-1", "act": "accepted"}`, wakes: true},
		{tag: "salt/minion/web-1/start", data: `{"id": "web-1"}`, wakes: true},
		{tag: "salt/minion/web-1/start", data: `{"id": "web-2"}`, fault: "tag and data disagree"},
		{tag: "salt/minion/web-1/start", data: `{"id": 7}`, fault: "no id"},
		{tag: "salt/job/20260101000000000000/ret/web-1", data: `{"id": "web-1", "jid": "20260101000000000000", "retcode": 0,
			"success": true, "fun": "state.highstate", "return": {"a": [1, 2.5, null, "b"]}}`}, // not a job of ours
		{tag: "salt/job/20260101000000000000/ret/web-1", data: `{"id": "web-1", "jid": "1"}`, fault: "tag and data disagree"},
		{tag: "salt/auth", data: `{}`, fault: "no id"},
		{tag: "salt/auth", data: `null`, fault: "malformed"},
		{tag: "", data: `{"id": "web-1"}`, fault: "its tag is none of"},
		{tag: "salt/auth\n\n", data: `{"id": "web-1"}`, fault: "malformed"},
	} {
		inbox := service.NewInbox()
		dec := json.NewDecoder(strings.NewReader(h.data))
		dec.UseNumber()
		var data map[string]any
		if err := dec.Decode(&data); err != nil {
			t.Fatal(err)
		}
		err := hinted(inbox)(h.tag, data)
		if (err == nil) != (h.fault == "") || err != nil && !strings.Contains(err.Error(), h.fault) {
			t.Errorf("%q %s: %v", h.tag, h.data, err)
		}
		woke := false
		select {
		case <-inbox.Wake():
			woke = true
		default:
		}
		if woke != h.wakes {
			t.Errorf("%q %s: wakes the engine: %v", h.tag, h.data, woke)
		}
	}
}

// YAML 1.1 took off for false.
func TestTheBusMayBeOff(t *testing.T) {
	for text, want := range map[string]string{"bus: off\n": config.BusOff, "bus: 'off'\n": config.BusOff, "bus: auto\n": config.BusAuto, "{}\n": config.BusAuto, "bus: on\n": ""} {
		c, err := configOf(t, "show", "--config", writeFile(t, text))
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), `bus: "on" is neither auto nor off`) {
				t.Errorf("%q: %v", text, err)
			}
		} else if err != nil || c.Bus != want {
			t.Errorf("%q: %q, %v", text, c.Bus, err)
		}
	}
}
