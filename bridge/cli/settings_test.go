package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/config"

	"github.com/urfave/cli/v2"
)

// configOf runs readConfig as the program does, for the given command line.
func configOf(t *testing.T, args ...string) (config.Config, error) {
	t.Helper()
	var got config.Config
	app := newApp(&bytes.Buffer{}, &bytes.Buffer{})
	app.Commands = []*cli.Command{{Name: "show", Flags: []cli.Flag{jsonFlag}, Action: func(c *cli.Context) (err error) {
		got, err = readConfig(c)
		return err
	}}}
	err := app.RunContext(context.Background(), arrange(append([]string{"phoenix"}, args...), app))
	return got, err
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "phoenix.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsWinOverVariablesOverFile(t *testing.T) {
	path := writeFile(t, "instance_id: from-file\naddress: from-file\nadmit: listed\nhighstate:\n  lease: 21s\n")
	t.Setenv("PHOENIX_ADDRESS", "from-variable")
	t.Setenv("PHOENIX_ADMIT", "bound")
	t.Setenv("PHOENIX_HIGHSTATE_LEASE", "22s")
	c, err := configOf(t, "show", "--config", path, "--highstate.lease", "23s")
	if err != nil {
		t.Fatal(err)
	}
	if c.InstanceID != "from-file" || c.Address != "from-variable" || c.Admit != "bound" || c.Highstate.Lease != 23*time.Second {
		t.Errorf("got %q %q %q %v", c.InstanceID, c.Address, c.Admit, c.Highstate.Lease)
	}
}

func TestFlagsStandAnywhereAndInEachSpelling(t *testing.T) {
	for _, args := range [][]string{
		{"--salt-config", "/x", "show", "--json"},
		{"show", "--json", "--salt-config=/x"},
		{"show", "--salt_config", "/x"},
		{"show", "operand", "--salt.config=/x", "-", "--json"},
	} {
		c, err := configOf(t, args...)
		if err != nil || c.SaltConfig != "/x" {
			t.Errorf("%v: got %q, %v", args, c.SaltConfig, err)
		}
	}
}

func TestConfigurationFaultsAreOneClearLine(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"unknown key":     {"highstat:\n  lease: 30s\n", "line 1: unknown key highstat"},
		"unknown subkey":  {"highstate:\n  leas: 30s\n", "line 2: unknown key highstate.leas (highstate.lease?)"},
		"wrong type":      {"highstate:\n  attempts: many\n", `line 2: highstate.attempts: "many" is not a whole number`},
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
			_, err := configOf(t, "show", "--config", writeFile(t, test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if exitCode(err) != exitUsage {
				t.Errorf("exit code %d", exitCode(err))
			}
			if strings.Contains(describeError(err), "\n") {
				t.Errorf("more than one line: %q", describeError(err))
			}
		})
	}
	if _, err := configOf(t, "show", "--config", "/nowhere/phoenix.yaml"); exitCode(err) != exitUsage {
		t.Errorf("missing file: %v", err)
	}
}

func TestListsAndMaps(t *testing.T) {
	c, err := configOf(t, "show", "--highstate-args", "[a, 1]", "--highstate-kwargs", "{test: true}", "--ready-command", "/bin/true -x")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Highstate.Args) != 2 || c.Highstate.Kwargs["test"] != true || !slices.Equal(c.Ready.Command, []string{"/bin/true", "-x"}) {
		t.Errorf("got %v %v %v", c.Highstate.Args, c.Highstate.Kwargs, c.Ready.Command)
	}
}

func TestHostileIDsAreNeverValid(t *testing.T) {
	c := config.Default()
	c.IDPattern = ".*" // even if the operator lets everything in
	valid := c.ValidID()
	for _, id := range []string{"", "*", "i-*", "a,b", "../x", "a/b", ".hidden", "a b", "a\nb", "a\x00b", "a'b", `a"b`, "$(id)",
		strings.Repeat("a", 300), "ä", "a[b]", "a?"} {
		if valid(id) {
			t.Errorf("%q is let in", id)
		}
	}
	for _, id := range []string{"web-1", "i-0123456789abcdef0", "db.example.org", "A_1"} {
		if !valid(id) {
			t.Errorf("%q is not let in", id)
		}
	}
}
