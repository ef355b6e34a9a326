package config

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Setting is one key of the configuration. Its value is written as YAML in the file,
// as a flag and as an environment variable.
type Setting struct {
	Key   string // as in the file; a dot separates levels
	Usage string // what it is for
	value any    // pointer into a Config
}

// Flag returns the name of its flag, without dashes: highstate-lease.
func (s Setting) Flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.Key) }

// Variable returns the name of its environment variable: PHOENIX_HIGHSTATE_LEASE.
func (s Setting) Variable() string {
	return "PHOENIX_" + strings.ToUpper(strings.NewReplacer(".", "_").Replace(s.Key))
}

// set reads the value from YAML text.
func (s Setting) set(text string) error {
	if p, ok := s.value.(*string); ok {
		if err := s.checkBlank(text); err != nil {
			return err
		}
		*p = text // no quotes needed for a string that YAML would take for a number
		return nil
	}
	var node yaml.Node
	if err := yaml.Unmarshal([]byte(text), &node); err != nil {
		return fmt.Errorf("%q is not YAML", text)
	}
	if len(node.Content) == 0 {
		return fmt.Errorf("%q is empty", text)
	}
	return s.decode(node.Content[0])
}

// checkBlank refuses a text that is blank, except an empty one where that is the default.
func (s Setting) checkBlank(text string) error {
	if strings.TrimSpace(text) != "" {
		return nil
	}
	c := Default()
	for _, d := range c.Settings() {
		switch def := d.Text(); {
		case d.Key != s.Key:
		case def != "":
			return fmt.Errorf("%q is empty (leave it out for the default, %s)", text, def)
		case text != "":
			return fmt.Errorf("%q is blank", text)
		}
	}
	return nil
}

// decode reads the value from a YAML node. A key without a value, or with null, is as one
// that is left out.
func (s Setting) decode(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil
	}
	if _, ok := s.value.(*string); ok && node.Kind == yaml.ScalarNode {
		if err := s.checkBlank(node.Value); err != nil {
			return err
		}
	}
	if p, ok := s.value.(*time.Duration); ok {
		d, err := time.ParseDuration(node.Value)
		if err != nil {
			return fmt.Errorf("%s is not a duration like 30s", describe(node))
		}
		*p = d
		return nil
	}
	if p, ok := s.value.(*[]string); ok && node.Kind == yaml.ScalarNode && strings.TrimSpace(node.Value) != "" {
		*p = strings.Fields(node.Value)
		return nil
	}
	if node.Decode(s.value) != nil {
		return fmt.Errorf("%s is not %s", describe(node), kind(s.value))
	}
	return nil
}

func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a map"
	}
	return fmt.Sprintf("%q", node.Value)
}

func kind(value any) string {
	switch value.(type) {
	case *bool:
		return "true or false"
	case *int:
		return "a whole number"
	case *string:
		return "a text"
	case *[]string, *[]any:
		return "a list"
	}
	return "a map"
}

// Text returns the value as it is shown to users; the empty string for lists and maps.
func (s Setting) Text() string {
	switch p := s.value.(type) {
	case *string:
		return *p
	case *time.Duration:
		return p.String()
	case *[]string, *[]any, *map[string]any:
		return ""
	case *int:
		return fmt.Sprint(*p)
	case *bool:
		return fmt.Sprint(*p)
	}
	return ""
}

var defaultInUsage = regexp.MustCompile(`^(.*) \(default: (.*)\)$`)

// Describe returns what the setting is for, and its default.
func (s Setting) Describe() (usage, def string) {
	usage, def = s.Usage, s.Text()
	if m := defaultInUsage.FindStringSubmatch(usage); m != nil {
		usage, def = m[1], m[2]
	}
	switch p := s.value.(type) {
	case *time.Duration:
		def = ShownTime(*p)
	case *[]string:
		if len(*p) > 0 {
			def = "[" + strings.Join(*p, ", ") + "]"
		}
	}
	return usage, def
}

// ShownTime leaves out what is zero: 1m, not 1m0s.
func ShownTime(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
