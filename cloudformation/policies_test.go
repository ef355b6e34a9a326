package cloudformation

import (
	"bufio"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestNoStar: no statement of any policy allows an action by a pattern, and none
// allows all that it does not name.
func TestNoStar(t *testing.T) {
	found := 0
	for _, file := range templates {
		for _, r := range parse(t, file).Resources {
			walk(&r.Properties, func(key string, value *yaml.Node) {
				switch key {
				case "NotAction", "NotPrincipal", "NotResource":
					t.Errorf("%s:%d: %s", file, value.Line, key)
				case "Action":
					found++
					for _, action := range texts(value) {
						if strings.ContainsAny(action, "*?") || !strings.Contains(action, ":") {
							t.Errorf("%s:%d: action %q", file, value.Line, action)
						}
					}
				}
			})
		}
	}
	if found < 20 {
		t.Errorf("only %d statements were looked at", found)
	}
}

// template is as much of a template as is looked at in it.
type template struct {
	t         *testing.T
	Resources map[string]struct {
		Type       string    `yaml:"Type"`
		Properties yaml.Node `yaml:"Properties"`
		DependsOn  yaml.Node `yaml:"DependsOn"`
		Metadata   yaml.Node `yaml:"Metadata"`

		DeletionPolicy string `yaml:"DeletionPolicy"`
	} `yaml:"Resources"`
	Mappings struct {
		First struct {
			Boot struct {
				Script string `yaml:"Script"`
			} `yaml:"Boot"`
		} `yaml:"First"`
	} `yaml:"Mappings"`
}

func parse(t *testing.T, file string) template {
	t.Helper()
	out := template{t: t}
	if err := yaml.Unmarshal([]byte(read(t, file)), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// statement is one of a policy; its resource is the text after !GetAtt, !Ref or !Sub.
type statement struct {
	Actions   []string
	Resources []string
	Principal string
	Condition yaml.Node
}

func (f template) statements(resource string) []statement {
	f.t.Helper()
	r, found := f.Resources[resource]
	if !found {
		f.t.Fatalf("no resource %s", resource)
	}
	type document struct {
		Statement []struct {
			Effect    string    `yaml:"Effect"`
			Action    yaml.Node `yaml:"Action"`
			Resource  yaml.Node `yaml:"Resource"`
			Principal yaml.Node `yaml:"Principal"`
			Condition yaml.Node `yaml:"Condition"`
		} `yaml:"Statement"`
	}
	var p struct {
		PolicyDocument document `yaml:"PolicyDocument"`
		KeyPolicy      document `yaml:"KeyPolicy"`
	}
	if err := r.Properties.Decode(&p); err != nil {
		f.t.Fatalf("%s: %v", resource, err)
	}
	var out []statement
	for _, s := range slices.Concat(p.PolicyDocument.Statement, p.KeyPolicy.Statement) {
		if s.Effect != "Allow" {
			f.t.Fatalf("%s: effect %s", resource, s.Effect)
		}
		principal := ""
		walk(&s.Principal, func(_ string, v *yaml.Node) { principal += strings.Join(texts(v), " ") })
		out = append(out, statement{texts(&s.Action), texts(&s.Resource), principal, s.Condition})
	}
	return out
}

// value returns one text of a resource's properties; empty if there is none.
func (f template) value(resource string, path ...string) string {
	f.t.Helper()
	node := f.Resources[resource].Properties
	for _, key := range path {
		var found *yaml.Node
		for i := 0; node.Kind == yaml.MappingNode && i < len(node.Content); i += 2 {
			if node.Content[i].Value == key {
				found = node.Content[i+1]
			}
		}
		if found == nil {
			return ""
		}
		node = *found
	}
	return node.Value
}

// recorded reads lists of permissions.
func recorded(t *testing.T, files ...string) []string {
	t.Helper()
	all := map[string]bool{}
	for _, name := range files {
		file, err := os.Open(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if line := lines.Text(); line != "" && line[0] != '#' {
				all[line] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// walk visits each value of a map, at any depth.
func walk(node *yaml.Node, visit func(key string, value *yaml.Node)) {
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 1 {
			visit(node.Content[i-1].Value, child)
		}
		walk(child, visit)
	}
}

// texts returns a text, or a list of them.
func texts(node *yaml.Node) []string {
	if node.Kind == yaml.ScalarNode {
		return []string{node.Value}
	}
	var out []string
	for _, child := range node.Content {
		out = append(out, child.Value)
	}
	return out
}
