// Package iamsim evaluates IAM policies as IAM does, with variables, conditions and
// resource policies. It runs @cloud-copilot/iam-simulate, a pinned release from npm,
// which knows the actions, resources and condition keys of AWS's services, and refuses
// a request that has others.
//
// It needs node and npm.
package iamsim

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"phoenix/lab"
)

//go:embed package.json package-lock.json simulate.mjs
var files embed.FS

// Results of a simulation. Anything else says why it could not be run.
const (
	Allowed          = "Allowed"
	ImplicitlyDenied = "ImplicitlyDenied"
	ExplicitlyDenied = "ExplicitlyDenied"
)

// Simulation is one request, and the policies that it is evaluated by.
type Simulation struct {
	Request        Request          `json:"request"`
	Identity       []IdentityPolicy `json:"identityPolicies"`
	ResourcePolicy json.RawMessage  `json:"resourcePolicy,omitempty"`
}

// Request is who calls what, on which resource.
type Request struct {
	Principal string         `json:"principal"`
	Action    string         `json:"action"`
	Resource  Resource       `json:"resource"`
	Context   map[string]any `json:"contextVariables"` // a text, or a list of texts
}

// Resource is one of an account.
type Resource struct {
	ARN     string `json:"resource"`
	Account string `json:"accountId"`
}

// IdentityPolicy is a policy of the principal.
type IdentityPolicy struct {
	Name   string          `json:"name"`
	Policy json.RawMessage `json:"policy"`
}

// Run evaluates simulations, in one process, and returns their results in order.
func Run(simulations []Simulation) ([]string, error) {
	dir, err := install()
	if err != nil {
		return nil, err
	}
	in, err := json.Marshal(simulations)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("node", filepath.Join(dir, "simulate.mjs"))
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("simulate: %w\n%s", err, stderr.String())
	}
	var results []string
	if err := json.Unmarshal(out, &results); err != nil || len(results) != len(simulations) {
		return nil, fmt.Errorf("simulate: %d results of %d: %w", len(results), len(simulations), err)
	}
	return results, nil
}

// install puts the simulator below .cache, unless it is there.
func install() (dir string, err error) {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("the simulator of IAM needs %s (on Debian: apt install nodejs npm): %w", tool, err)
		}
	}
	dir, unlock, err := lab.LockCache("iamsim")
	if err != nil {
		return "", err
	}
	defer unlock()
	stamp := filepath.Join(dir, "complete") // written last
	for _, name := range []string{"package.json", "package-lock.json", "simulate.mjs"} {
		text, err := files.ReadFile(name)
		if err != nil {
			return "", err
		}
		had, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && bytes.Equal(had, text) {
			continue
		}
		_ = os.Remove(stamp) // it may not be there
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(stamp); err == nil {
		return dir, nil
	}
	// The lock file has the digest of each package.
	cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("install the simulator of IAM: npm ci: %w", err), errors.New(string(out)))
	}
	return dir, os.WriteFile(stamp, nil, 0o644)
}
