package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"phoenix/bridge/files"
	"phoenix/bridge/spelling"
)

// DefaultPath is where the configuration is read from unless a path is given. This
// file may be absent.
const DefaultPath = "/etc/phoenix/phoenix.yaml"

// Source says where a configuration is read from.
type Source struct {
	Path     string // of the file; empty: DefaultPath, if it exists
	Variable func(name string) (string, bool)
	Flag     func(name string) (string, bool) // of the command line
}

// Load merges the defaults, the file, environment variables and flags. Later ones
// take precedence. It returns the configuration as far as it was read, and each
// error names the file, variable, flag or key at fault.
func Load(from Source) (Config, error) {
	c := Default()
	path := from.Path
	if path == "" {
		path = DefaultPath
	}
	err := readFile(path, c.Settings())
	if err != nil && (from.Path != "" || !errors.Is(err, fs.ErrNotExist)) {
		return c, fmt.Errorf("read configuration %s: %w", path, cause(err))
	}
	for _, s := range c.Settings() {
		if text, ok := from.Variable(s.Variable()); ok {
			if err := s.set(text); err != nil {
				return c, fmt.Errorf("read variable %s: %w", s.Variable(), err)
			}
		}
		if text, ok := from.Flag(s.Flag()); ok {
			if err := s.set(text); err != nil {
				return c, fmt.Errorf("read flag --%s: %w", s.Flag(), err)
			}
		}
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("check configuration: %w", err)
	}
	return c, nil
}

// maxConfig bounds our own configuration file.
const maxConfig = 1 << 20

// readFile reads a configuration file into settings. A key that nobody knows is
// an error that names it: a misspelt limit must not mean no limit.
func readFile(path string, settings []Setting) error {
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
	known := map[string]Setting{}
	for _, s := range settings {
		known[s.Key] = s
	}
	return walk(doc.Content[0], "", known)
}

func walk(node *yaml.Node, prefix string, known map[string]Setting) error {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil // a section with all its keys commented out
	}
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s is not a map", node.Line,
			strings.TrimSpace("configuration "+strings.TrimSuffix(prefix, ".")))
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

func isSection(key string, known map[string]Setting) bool {
	for k := range known {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

// nearest suggests the keys that were perhaps meant: the same name elsewhere, or one that is
// spelt alike.
func nearest(key string, known map[string]Setting) string {
	section, base := key[:strings.LastIndexByte(key, '.')+1], key[strings.LastIndexByte(key, '.')+1:]
	var same, there []string
	for k := range known {
		if strings.Contains(k, base) {
			same = append(same, k)
		}
		if name, in := strings.CutPrefix(k, section); in {
			name, _, _ = strings.Cut(name, ".") // it may be a section
			there = append(there, name)
		}
	}
	if len(same) > 0 {
		slices.Sort(same)
		return spelling.DidYouMean(same)
	}
	near := spelling.Nearest(base, there)
	for i, name := range near {
		near[i] = section + name
	}
	return spelling.DidYouMean(near)
}

// cause drops the operation and path of an *fs.PathError: the message around it has both.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
