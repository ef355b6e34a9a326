package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
)

// A command line of an older runner becomes an operation with its arguments: never a
// setting, and never another command.
func TestTranslate(t *testing.T) {
	for args, want := range map[string]string{
		"status":                              "status {}",
		"minions add web-1 web-2":             `minions.add {"ids":["web-1","web-2"]}`,
		"minions add --again web-1":           `minions.add {"again":true,"ids":["web-1"]}`,
		"minions add web-1 --group=web":       `minions.add {"group":"web","ids":["web-1"]}`,
		"minions list --status=LAUNCH":        `minions.list {"status":"LAUNCH"}`,
		"minions explain --lines=3 web-1":     `minions.explain {"id":"web-1","lines":3}`,
		"minions explain --lines=many web-1":  "",
		"doctor --salt-only":                  `doctor {"salt_only":true}`,
		"prune --older=48h --dry-run":         `prune {"dry_run":true,"older":"48h"}`,
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
		"minions add --again=false web-1":     "",
		"minions retire --unknown -- --store": "",
	} {
		r, err := translate(strings.Fields(args))
		got := strings.TrimSpace(r.Operation + " " + string(r.Arguments))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %s, %v", args, got, err)
		}
	}
}

// Each command line that older runners send is that of a command, with flags that it
// has, and of an operation, with fields that it has.
func TestCommandLinesAreOperations(t *testing.T) {
	app, operations := newApp(nil, nil), operate(socketConfig(t), nil)
	for name, flags := range commandLines {
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
		for flag := range flags {
			if !has(found.Flags, flag) {
				t.Errorf("%q has no --%s", name, flag)
			}
		}
		r := api.Request{Operation: strings.ReplaceAll(name, " ", "."), Arguments: json.RawMessage(`{"odd": 1}`)}
		answer, err := operations(t.Context(), r)
		if err != nil || answer.Code != exitUsage || answer.Error != `read arguments: json: unknown field "odd"` ||
			answer.Answer != nil {
			t.Errorf("%q: %+v, %v", name, answer, err)
		}
	}
}

func socketConfig(t *testing.T) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Store, cfg.Socket, cfg.SaltConfig = "sqlite:/nowhere/fleet.db", "/nowhere/bridge.sock", "/nowhere/master"
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// An operation of the socket uses the bridge's store, ends as the command of its name
// would, and leaves the store open.
func TestOperationsOfTheSocket(t *testing.T) {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	run := operate(socketConfig(t), store)
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
		r, err := translate(strings.Fields(step.args))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := run(t.Context(), r)
		if err != nil {
			t.Fatalf("%s: %v", step.args, err)
		}
		told, err := json.Marshal(answer.Answer)
		if err != nil {
			t.Fatalf("%s: answer is no JSON: %q", step.args, answer.Answer)
		}
		if answer.Code != step.code || !strings.Contains(string(told)+answer.Error, step.says) ||
			(step.code == exitOK) != (answer.Error == "") {
			t.Errorf("%s: exit %d: %s %s", step.args, answer.Code, told, answer.Error)
		}
		if strings.HasPrefix(answer.Error, "phoenix: ") || strings.Contains(answer.Error, "\n") {
			t.Errorf("%s: error is told as %q", step.args, answer.Error)
		}
	}
	if _, err := store.Minion(t.Context(), "web-1"); err != nil {
		t.Errorf("the bridge's store does not answer any more: %v", err)
	}
	if row, err := store.Minion(t.Context(), "web-2"); err != nil || row.Status != fleet.Terminate {
		t.Errorf("%+v, %v", row, err)
	}
}

// Operations run at the same time, and none gets what another one asked for.
func TestOperationsAtTheSameTime(t *testing.T) {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	run := operate(socketConfig(t), store)
	var all sync.WaitGroup
	for _, id := range []string{"web-1", "web-2", "web-3", "web-4", "web-5"} {
		all.Go(func() {
			answer, err := run(t.Context(),
				api.Request{Operation: "minions.add",
					Arguments: json.RawMessage(`{"ids": ["` + id + `"], "group": "g-` + id + `"}`)})
			var rows []fleet.Minion
			if err == nil {
				err = json.Unmarshal(answer.Answer, &rows)
			}
			if err != nil || len(rows) != 1 || rows[0].InstanceID != id || rows[0].Group != "g-"+id {
				t.Errorf("%s: %+v, %v", id, answer, err)
			}
		})
	}
	all.Wait()
	if _, err := run(t.Context(), api.Request{Operation: "bridge"}); err == nil ||
		!strings.Contains(err.Error(), `run operation "bridge": phoenix`) {
		t.Errorf("bridge: %v", err)
	}
}
