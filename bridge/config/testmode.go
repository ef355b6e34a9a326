package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// testable are the functions of Salt's state module that apply states and take test
// (3006 to 3008, modules/state.py).
var testable = []string{"state.highstate", "state.apply", "state.sls", "state.sls_id", "state.top"}

// HighstateKwargs returns the keyword arguments of a first highstate: those of
// highstate.kwargs, and test=False unless highstate.kwargs or highstate.args set it. A
// minion with test: True in its configuration would else change nothing and return
// success. The argument wins over the minion's configuration (3006 to 3008,
// modules/state.py, _get_test_value); test: null leaves it to the minion.
func (c Config) HighstateKwargs() map[string]any {
	set := false
	for name := range c.Highstate.Kwargs {
		set = set || strings.EqualFold(name, "test") // as salt.utils.args.test_mode does
	}
	for _, arg := range c.Highstate.Args { // "name=value" is a keyword argument
		name, _, keyword := strings.Cut(fmt.Sprint(arg), "=")
		set = set || keyword && strings.EqualFold(name, "test")
	}
	if set || !slices.Contains(testable, c.Highstate.Function) {
		return c.Highstate.Kwargs
	}
	kwargs := maps.Clone(c.Highstate.Kwargs)
	if kwargs == nil {
		kwargs = map[string]any{}
	}
	kwargs["test"] = false
	return kwargs
}
