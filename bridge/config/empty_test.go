package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// value is what a configuration has for a key.
func value(c *Config, key string) any {
	settings := c.Settings()
	i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == key })
	return reflect.ValueOf(settings[i].value).Elem().Interface()
}

// inFile is a configuration file with this text as the value of a key.
func inFile(key, value string) string {
	parts := strings.Split(key, ".")
	return strings.Join(parts, ": {") + ": " + value + strings.Repeat("}", len(parts)-1) + "\n"
}

// A key without a value has its default. Each other empty value has it too, is an empty
// list or map, or is refused in one line that names the key.
func TestEmptyValues(t *testing.T) {
	defaults := Default()
	if err := defaults.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, s := range defaults.Settings() {
		check := func(how string, c Config, err error, name string) {
			t.Helper()
			got := reflect.ValueOf(value(&c, s.Key))
			switch {
			case err != nil && (!strings.Contains(err.Error(), name+": ") || strings.Contains(err.Error(), "\n")):
				t.Errorf("%s: %v", how, err)
			case err != nil || reflect.DeepEqual(got.Interface(), value(&defaults, s.Key)):
			case got.Kind() == reflect.Slice && got.Len() == 0 || got.Kind() == reflect.Map && got.Len() == 0:
			case s.Key == "highstate.args": // an argument may be anything
			default:
				t.Errorf("%s: it is %q", how, got)
			}
		}
		for _, text := range []string{"", "null", "~", `""`, `" "`, "[]", "{}", `[""]`} {
			c, err := load(t, inFile(s.Key, text))
			check(s.Key+": "+text, c, err, s.Key)
			if unset := text == "" || text == "null" ||
				text == "~"; unset && (err != nil || !reflect.DeepEqual(value(&c, s.Key), value(&defaults, s.Key))) {
				t.Errorf("%s: %s is %v, %v, not its default", s.Key, text, value(&c, s.Key), err)
			}
		}
		for _, text := range []string{"", " "} {
			c, err := Load(Source{Path: "/dev/null", Flag: unset,
				Variable: func(name string) (string, bool) { return text, name == s.Variable() }})
			check(s.Variable()+"="+text, c, err, s.Variable())
			c, err = Load(Source{Path: "/dev/null", Variable: unset,
				Flag: func(name string) (string, bool) { return text, name == s.Flag() }})
			check("--"+s.Flag()+" "+text, c, err, "--"+s.Flag())
		}
	}
	if c, err := load(t, "agent:\n  follow:\n"); err != nil || c.Agent.Follow != "" {
		t.Errorf("agent.follow without a value: %q, %v", c.Agent.Follow, err)
	}
	if _, err := load(t, "socket: ''\n"); err == nil ||
		!strings.Contains(err.Error(),
			"line 1: socket: \"\" is empty (leave it out for the default, /run/phoenix/bridge.sock)") {
		t.Errorf("an empty socket: %v", err)
	}
}
