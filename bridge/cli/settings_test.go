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
	if c.InstanceID != "from-file" || c.Address != "from-variable" || c.Admit != "bound" ||
		c.Highstate.Lease != 23*time.Second {
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

// A fault of the configuration is one line, and exit code 2.
func TestConfigurationFaults(t *testing.T) {
	for _, args := range [][]string{{"show", "--config", writeFile(t, "highstate:\n  leas: 30s\n  x: y\n")},
		{"show", "--config", "/nowhere/phoenix.yaml"}} {
		_, err := configOf(t, args...)
		if exitCode(err) != exitUsage || strings.Contains(describeError(err), "\n") {
			t.Errorf("%v: exit code %d: %v", args, exitCode(err), err)
		}
	}
}

func TestListsAndMaps(t *testing.T) {
	c, err := configOf(t, "show", "--highstate-args", "[a, 1]", "--highstate-kwargs", "{test: true}", "--ready-command",
		"/bin/true -x")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Highstate.Args) != 2 || c.Highstate.Kwargs["test"] != true ||
		!slices.Equal(c.Ready.Command, []string{"/bin/true", "-x"}) {
		t.Errorf("got %v %v %v", c.Highstate.Args, c.Highstate.Kwargs, c.Ready.Command)
	}
}
