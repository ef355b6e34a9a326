package cloudformation

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"phoenix/lab/moto"
)

var templates = []string{"base.yaml", "fleet.yaml"}

// TestLint: cfn-lint, which moto brings, has nothing to say of any kind, not even
// for information. A fault that it must find shows that it looks.
func TestLint(t *testing.T) {
	python, err := moto.Install()
	if err != nil {
		t.Fatalf("install moto: %v", err)
	}
	lint := func(files ...string) (string, error) {
		out, err := exec.Command(filepath.Join(filepath.Dir(python), "cfn-lint"),
			append([]string{"--include-checks", "I", "--"}, files...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := lint(templates...); err != nil || out != "" {
		t.Errorf("cfn-lint: %v\n%s", err, out)
	}
	faulty := t.TempDir() + "/faulty.yaml"
	text := strings.ReplaceAll(read(t, "base.yaml"), "KeyType: HASH", "KeyType: HASHED")
	if err := os.WriteFile(faulty, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if out, err := lint(faulty); !errors.As(err, &exit) || !strings.Contains(out, "HASHED") {
		t.Errorf("cfn-lint lets a faulty template pass: %v\n%s", err, out)
	}
}

// secrets are what must not stand in a template, whoever it may belong to.
var secrets = map[string]*regexp.Regexp{
	"access key":   regexp.MustCompile(`\b(AKIA|ASIA)[A-Z0-9]{12,}`),
	"account":      regexp.MustCompile(`\b[0-9]{12}\b`),
	"private key":  regexp.MustCompile(`BEGIN [A-Z ]*PRIVATE KEY`),
	"password":     regexp.MustCompile(`(?i)(password|passwd|secret|token)["']?\s*[:=]\s*["']?[A-Za-z0-9/+_-]{6,}`),
	"URL with one": regexp.MustCompile(`://[^/\s'"@]*:[^/\s'"@]*@`),
	"image":        regexp.MustCompile(`\bami-[0-9a-f]{8,}`),
	"region":       regexp.MustCompile(`\b(us|eu|ap|sa|ca|me|af|il|cn)-(gov-)?(north|south|east|west|central|northeast|southeast)+-[0-9]\b`),
}

// TestNoSecret: neither template nor script holds what belongs to one account or
// one region. Each pattern is tried on what it must find.
func TestNoSecret(t *testing.T) {
	for _, file := range append(templates, "bootstrap/bootstrap.sh") {
		for i, line := range strings.Split(read(t, file), "\n") {
			for what, pattern := range secrets {
				if pattern.MatchString(line) {
					t.Errorf("%s:%d has an %s: %s", file, i+1, what, line)
				}
			}
		}
	}
	for what, text := range map[string]string{
		"access key":   "Default: AKIAIOSFODNN7EXAMPLE",
		"account":      "arn:aws:iam::111122223333:role/master",
		"private key":  "-----BEGIN RSA PRIVATE KEY-----",
		"password":     "password: hunter2hunter2",
		"URL with one": "https://git:hunter2@git.example.org/states.git",
		"image":        "ImageId: ami-0123456789abcdef0",
		"region":       "AvailabilityZone: eu-west-1",
	} {
		if !secrets[what].MatchString(text) {
			t.Errorf("the pattern of %s does not find %q", what, text)
		}
	}
}

// TestParameters: what has no default is what nobody but the operator can know.
func TestParameters(t *testing.T) {
	total := 0
	for _, file := range templates {
		var template struct {
			Parameters map[string]struct {
				Default *string `yaml:"Default"`
			} `yaml:"Parameters"`
		}
		if err := yaml.Unmarshal([]byte(read(t, file)), &template); err != nil {
			t.Fatal(err)
		}
		total += len(template.Parameters)
		for name, p := range template.Parameters {
			if must := name == "PhoenixPackage" || name == "PhoenixSHA256"; must == (p.Default != nil) {
				t.Errorf("%s: %s: has a default: %v", file, name, p.Default != nil)
			}
		}
	}
	if total < 30 {
		t.Fatalf("only %d parameters were found", total)
	}
	// User data may have 16 KiB, and a template that is sent as it is 51,200 bytes.
	for _, file := range templates {
		if n := len(read(t, file)); n > 45_000 {
			t.Errorf("%s has %d bytes", file, n)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestGroupsWait: no machine starts before there is a way to what its first minutes
// need. moto creates resources in an order of its own.
func TestGroupsWait(t *testing.T) {
	fleet := parse(t, "fleet.yaml")
	way := []string{"Subnet1Routes", "Subnet2Routes", "WayToS3", "WayToDynamoDB", "WayOut", "MinionsToMasters"}
	for group, needs := range map[string][]string{
		"MinionGroup": append([]string{"MinionLogsPolicy"}, way...),
		"MasterGroup": append([]string{"MastersToMasters", "RelaysToRelays", "RepositoriesPolicy", "MasterLogsPolicy",
			"WayToLogs", "WayToSQS", "WayToAutoScaling", "WayToEC2", "WayToCloudWatch", "WayToSecretsManager"}, way...),
	} {
		r := fleet.Resources[group]
		after := texts(&r.DependsOn)
		var refs func(n *yaml.Node)
		refs = func(n *yaml.Node) {
			if n.Tag == "!Ref" {
				after = append(after, n.Value)
			}
			for _, c := range n.Content {
				refs(c)
			}
		}
		refs(&r.Metadata)
		for _, need := range needs {
			if _, there := fleet.Resources[need]; !there || !slices.Contains(after, need) {
				t.Errorf("%s does not wait for %s", group, need)
			}
		}
	}
}
