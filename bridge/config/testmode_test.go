package config

import (
	"maps"
	"testing"
)

// A first highstate is no dry run, whatever the minion's configuration says.
func TestHighstateKwargs(t *testing.T) {
	for name, test := range map[string]struct {
		function string
		args     []any
		kwargs   map[string]any
		want     map[string]any
	}{
		"nothing is set": {"state.highstate", nil, nil, map[string]any{"test": false}},
		"other arguments": {"state.apply", []any{"web"}, map[string]any{"queue": true},
			map[string]any{"queue": true, "test": false}},
		"a dry run":             {"state.highstate", nil, map[string]any{"test": true}, map[string]any{"test": true}},
		"in capitals":           {"state.highstate", nil, map[string]any{"Test": true}, map[string]any{"Test": true}},
		"left to the minion":    {"state.highstate", nil, map[string]any{"test": nil}, map[string]any{"test": nil}},
		"a dry run, positional": {"state.apply", []any{"web", "test=True"}, nil, nil},
		"another function":      {"cmd.run", []any{"true"}, nil, nil},
	} {
		c := Default()
		c.Highstate.Function, c.Highstate.Args, c.Highstate.Kwargs = test.function, test.args, test.kwargs
		if got := c.HighstateKwargs(); !maps.Equal(got, test.want) {
			t.Errorf("%s: %v, not %v", name, got, test.want)
		}
		if !maps.Equal(c.Highstate.Kwargs, test.kwargs) {
			t.Errorf("%s: the configuration was changed: %v", name, c.Highstate.Kwargs)
		}
	}
}
