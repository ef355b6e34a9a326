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

// TestPolicies: what a role may do is what its instances were seen to do. The
// files in testdata are lists of permissions that calls needed, one a line,
// recorded by tests. A master runs a minion, too.
func TestPolicies(t *testing.T) {
	base, fleet := parse(t, "base.yaml"), parse(t, "fleet.yaml")
	master := slices.Concat(base.policy("MasterPolicy"), fleet.policy("RepositoriesPolicy"), base.policyOfKey("IdentityKey", "MasterRole.Arn"))
	for role, c := range map[string]struct{ allowed, needed []string }{
		"master": {master, recorded(t, "iam-master.txt", "iam-heal.txt", "iam-minion.txt", "iam-bootstrap-master.txt", "iam-bootstrap-minion.txt")},
		"minion": {base.policy("MinionPolicy"), recorded(t, "iam-minion.txt", "iam-bootstrap-minion.txt")},
	} {
		t.Run(role, func(t *testing.T) {
			allowed := permissions(t, c.allowed)
			for _, p := range c.needed {
				if !slices.Contains(allowed, p) {
					t.Errorf("missing: %s", p)
				}
			}
			for _, p := range allowed {
				if !slices.Contains(c.needed, p) {
					t.Errorf("spare: %s", p)
				}
			}
		})
	}
}

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

// TestProofIsOnesOwn: both roles may write a proof under the instance's own ARN
// and under no other; IAM then compares it with the credentials.
func TestProofIsOnesOwn(t *testing.T) {
	base := parse(t, "base.yaml")
	for _, name := range []string{"MasterPolicy", "MinionPolicy"} {
		own := 0
		for _, s := range base.statements(name) {
			if !slices.Contains(s.Actions, "dynamodb:PutItem") {
				continue
			}
			own++
			var condition map[string]map[string]any
			if err := s.Condition.Decode(&condition); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			keys, _ := condition["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"].([]any)
			// Without the second, a call that names no key would pass.
			if len(keys) != 1 || keys[0] != "${ec2:SourceInstanceARN}" || condition["Null"]["dynamodb:LeadingKeys"] != "false" || len(condition) != 2 {
				t.Errorf("%s: %v", name, condition)
			}
		}
		if own != 1 {
			t.Errorf("%s: %d statements allow to write proofs", name, own)
		}
	}
}

// template is as much of a template as is looked at in it.
type template struct {
	t         *testing.T
	Resources map[string]struct {
		Type       string    `yaml:"Type"`
		Properties yaml.Node `yaml:"Properties"`
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

// value gives one text of a resource's properties; empty if there is none.
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

// policy gives what a policy allows, as "action resource".
func (f template) policy(resource string) (out []string) {
	f.t.Helper()
	for _, s := range f.statements(resource) {
		for _, action := range s.Actions {
			for _, on := range s.Resources {
				out = append(out, action+" "+on)
			}
		}
	}
	return out
}

// policyOfKey gives what a KMS key's own policy allows one principal.
func (f template) policyOfKey(resource, principal string) (out []string) {
	f.t.Helper()
	for _, s := range f.statements(resource) {
		if s.Principal == principal {
			for _, action := range s.Actions {
				out = append(out, action+" "+resource)
			}
		}
	}
	return out
}

// words are the resources of policies, as the lists call them.
var words = map[string]string{
	"Minions.Arn":                      "minions",
	"${Minions.Arn}/index/by-status":   "minions/index/by-status",
	"Masters.Arn":                      "masters",
	"Proofs.Arn":                       "proofs",
	"Messages.Arn":                     "messages",
	"${Identity.Arn}/phoenix/identity": "identity",
	"Identity.Arn":                     "identity",
	"IdentityKey":                      "identity",
	"${Packages.Arn}/*":                "packages",
	"RepositoriesSecret":               "repositories",
	"*":                                "*",
	"arn:${AWS::Partition}:autoscaling:${AWS::Region}:${AWS::AccountId}:autoScalingGroup:*:autoScalingGroupName/${AWS::StackName}-*": "groups",
}

func permissions(t *testing.T, allowed []string) []string {
	t.Helper()
	var out []string
	for _, p := range allowed {
		action, resource, _ := strings.Cut(p, " ")
		word, known := words[resource]
		if !known {
			t.Errorf("%s: no word for resource %q", action, resource)
		}
		out = append(out, action+" "+word)
	}
	slices.Sort(out)
	if same := slices.Compact(slices.Clone(out)); len(same) != len(out) {
		t.Errorf("something is allowed twice: %q", out)
	}
	return out
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

// texts gives a text, or a list of them.
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
