package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func unset(string) (string, bool) { return "", false }

// load reads a configuration file with this text, and nothing else.
func load(t *testing.T, text string) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "phoenix.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(Source{Path: path, Variable: unset, Flag: unset})
}

// Flags win over variables, those over the file, and that over the defaults.
func TestPrecedence(t *testing.T) {
	path := filepath.Join(t.TempDir(), "phoenix.yaml")
	if err := os.WriteFile(path, []byte("instance_id: file\naddress: file\nadmit: listed\nhighstate: {lease: 21s}\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	given := func(values map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	}
	c, err := Load(Source{Path: path,
		Variable: given(map[string]string{"PHOENIX_ADDRESS": "variable", "PHOENIX_ADMIT": "bound",
			"PHOENIX_HIGHSTATE_LEASE": "22s"}),
		Flag: given(map[string]string{"admit": "listed", "highstate-lease": "23s"})})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.InstanceID, c.Address, c.Admit, c.Highstate.Lease, c.Store)
	if want := fmt.Sprint("file", "variable", "listed", 23*time.Second, Default().Store); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for want, source := range map[string]Source{
		"read variable PHOENIX_HIGHSTATE_ATTEMPTS: ": {Path: path, Flag: unset,
			Variable: given(map[string]string{"PHOENIX_HIGHSTATE_ATTEMPTS": "some"})},
		"read flag --highstate-lease: ": {Path: path, Variable: unset,
			Flag: given(map[string]string{"highstate-lease": "soon"})},
		"check configuration: admit: ": {Path: path, Variable: unset, Flag: given(map[string]string{"admit": "x"})},
	} {
		if _, err := Load(source); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v does not begin with %q", err, want)
		}
	}
}

// Each key has a flag and a variable of its own, and a default that is valid.
func TestSettings(t *testing.T) {
	c := Default()
	names := map[string]string{}
	for _, s := range c.Settings() {
		for _, name := range []string{s.Key, s.Flag(), s.Variable()} {
			if other := names[name]; other != "" && other != s.Key {
				t.Errorf("%s is a name of %s and of %s", name, other, s.Key)
			}
			names[name] = s.Key
		}
		if s.Usage == "" || reflect.TypeOf(s.value).Kind() != reflect.Pointer {
			t.Errorf("%s: usage %q, value %T", s.Key, s.Usage, s.value)
		}
	}
	if err := c.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	if err := c.Validate(); err != nil { // what it filled in is valid, too
		t.Errorf("the defaults, filled in: %v", err)
	}
}

// All faults are returned at once, each with its key.
func TestAllFaults(t *testing.T) {
	_, err := load(t, "store: x\nadmit: all\nid_from: name\nlog_level: loud\nrelay: {jobs: some}\nagent: {order: random, follow: none}\n")
	for _, key := range []string{"store:", "admit:", "id_from:", "log_level:", "relay.jobs:", "agent.order:",
		"agent.follow:"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("no fault of %s in %v", key, err)
		}
	}
}

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"unknown key": {"highstat:\n  lease: 30s\n", "line 1: unknown key highstat"},
		"unknown subkey": {"highstate:\n  leas: 30s\n",
			"line 2: unknown key highstate.leas (did you mean highstate.lease?)"},
		"misspelt key": {"adress: 10.0.0.1\n", "line 1: unknown key adress (did you mean address?)"},
		"misspelt subkey": {"highstate:\n  laese: 30s\n",
			"line 2: unknown key highstate.laese (did you mean highstate.lease?)"},
		"no such subkey":   {"highstate:\n  zzzz: 30s\n", "line 2: unknown key highstate.zzzz"},
		"misspelt section": {"highstaet:\n  lease: 30s\n", "line 1: unknown key highstaet (did you mean highstate?)"},
		"wrong type": {"highstate:\n  attempts: many\n",
			`line 2: highstate.attempts: "many" is not a whole number`},
		"list for a text": {"store: [a]\n", "line 1: store: a list is not a text"},
		"not a duration":  {"highstate:\n  lease: 30\n", `"30" is not a duration like 30s`},
		"not a map":       {"- a\n", "configuration is not a map"},
		"not YAML":        {"a: [\n", "yaml"},
		"bad admit":       {"admit: all\n", `admit: "all" is none of listed, bound and proven`},
		"bad pattern":     {"id_pattern: '('\n", "id_pattern: error parsing regexp"},
		"bad store":       {"store: mysql:x\n", `store: "mysql:x" is neither sqlite:PATH nor dynamodb:`},
		"lease too short": {"highstate: {lease: 1s}\n", "highstate.lease: 1s is not between 20s and 1h"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
		})
	}
	if _, err := Load(Source{Path: "/nowhere/phoenix.yaml", Variable: unset, Flag: unset}); !errors.Is(err,
		fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

// YAML 1.1 reads off as false.
func TestBusOff(t *testing.T) {
	for text, want := range map[string]string{"bus: off\n": BusOff, "bus: 'off'\n": BusOff, "bus: auto\n": BusAuto,
		"{}\n": BusAuto, "bus: on\n": ""} {
		c, err := load(t, text)
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), `bus: "on" is neither auto nor off`) {
				t.Errorf("%q: %v", text, err)
			}
		} else if err != nil || c.Bus != want {
			t.Errorf("%q: %q, %v", text, c.Bus, err)
		}
	}
}

func TestHostileIDs(t *testing.T) {
	c := Default()
	c.IDPattern = ".*" // even if the operator allows everything
	valid := c.ValidID()
	for _, id := range []string{"", "*", "i-*", "a,b", "../x", "a/b", ".hidden", "a b", "a\nb", "a\x00b", "a'b",
		`a"b`, "$(id)",
		strings.Repeat("a", 300), "ä", "a[b]", "a?"} {
		if valid(id) {
			t.Errorf("%q is accepted", id)
		}
	}
	for _, id := range []string{"web-1", "i-0123456789abcdef0", "db.example.org", "A_1"} {
		if !valid(id) {
			t.Errorf("%q is not accepted", id)
		}
	}
}
