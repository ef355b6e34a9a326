package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"phoenix/bridge/files"
)

// setting is one key of the configuration. Its value has one form, YAML, in the
// file, as a flag and as a variable.
type setting struct {
	key   string // as in the file; a dot goes one level down
	value any    // pointer into Config
	usage string
}

// defaultConfigPath may be absent; a path that was asked for may not.
const defaultConfigPath = "/etc/phoenix/phoenix.yaml"

func (s setting) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.key) }

func (s setting) variable() string {
	return "PHOENIX_" + strings.ToUpper(strings.NewReplacer(".", "_").Replace(s.key))
}

// set reads the value from YAML text.
func (s setting) set(text string) error {
	if p, ok := s.value.(*string); ok {
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

// decode reads the value from a YAML node.
func (s setting) decode(node *yaml.Node) error {
	if p, ok := s.value.(*time.Duration); ok {
		d, err := time.ParseDuration(node.Value)
		if err != nil {
			return fmt.Errorf("%q is not a duration like 30s", node.Value)
		}
		*p = d
		return nil
	}
	if p, ok := s.value.(*[]string); ok && node.Kind == yaml.ScalarNode && node.Value != "" {
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

// configFlags are the flags of all settings, and --config.
func configFlags() []cli.Flag {
	c := defaultConfig()
	flags := []cli.Flag{&cli.StringFlag{Name: "config", Aliases: []string{"c"}, EnvVars: []string{"PHOENIX_CONFIG"},
		Usage: "configuration `FILE`", DefaultText: defaultConfigPath}}
	for _, s := range c.settings() {
		flags = append(flags, &cli.StringFlag{Name: s.flag(), Usage: s.usage, DefaultText: s.text(), Category: "Configuration"})
	}
	return flags
}

// text is the value as it is shown.
func (s setting) text() string {
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

// readConfig merges defaults, file, variables and flags, the later winning.
func readConfig(c *cli.Context) (Config, error) {
	config := defaultConfig()
	path, asked := configPath(c)
	err := readFile(path, config.settings())
	if err != nil && (asked || !errors.Is(err, fs.ErrNotExist)) {
		return config, usageError(fmt.Errorf("read configuration %s: %w", path, cause(err)))
	}
	for _, s := range config.settings() {
		if text, ok := os.LookupEnv(s.variable()); ok {
			if err := s.set(text); err != nil {
				return config, usageError(fmt.Errorf("read variable %s: %w", s.variable(), err))
			}
		}
		if text, ok := flagText(c, s.flag()); ok {
			if err := s.set(text); err != nil {
				return config, usageError(fmt.Errorf("read flag --%s: %w", s.flag(), err))
			}
		}
	}
	if err := config.Validate(); err != nil {
		return config, usageError(fmt.Errorf("check configuration: %w", err))
	}
	return config, nil
}

// configPath is where the configuration is, and whether it was asked for there.
func configPath(c *cli.Context) (path string, asked bool) {
	if path, asked = flagText(c, "config"); asked {
		return path, true
	}
	if path = os.Getenv("PHOENIX_CONFIG"); path != "" {
		return path, true
	}
	return defaultConfigPath, false
}

// flagText finds a flag given to the command or before it.
func flagText(c *cli.Context, name string) (string, bool) {
	for _, ctx := range c.Lineage() {
		if slices.Contains(ctx.LocalFlagNames(), name) {
			return ctx.String(name), true
		}
	}
	return "", false
}

// maxConfig bounds our own configuration file.
const maxConfig = 1 << 20

// readFile reads a configuration file into settings. A key that nobody knows is
// an error that names it: a misspelt brake must not be no brake.
func readFile(path string, settings []setting) error {
	f, err := os.Open(path) // /dev/null and a pipe of the shell are as good
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := files.ReadAll(f, maxConfig)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return err
	}
	if len(doc.Content) == 0 {
		return nil
	}
	known := map[string]setting{}
	for _, s := range settings {
		known[s.key] = s
	}
	return walk(doc.Content[0], "", known)
}

func walk(node *yaml.Node, prefix string, known map[string]setting) error {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil // a section with all its keys commented out
	}
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s is not a map", node.Line, strings.TrimSpace("configuration "+strings.TrimSuffix(prefix, ".")))
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		key := prefix + name.Value
		if s, ok := known[key]; ok {
			if err := s.decode(value); err != nil {
				return fmt.Errorf("line %d: %s: %w", value.Line, key, err)
			}
			continue
		}
		if !isSection(key, known) {
			return fmt.Errorf("line %d: unknown key %s%s", name.Line, key, nearest(key, known))
		}
		if err := walk(value, key+".", known); err != nil {
			return err
		}
	}
	return nil
}

func isSection(key string, known map[string]setting) bool {
	for k := range known {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}
