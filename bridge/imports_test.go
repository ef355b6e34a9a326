// Package bridge_test holds the house to its plan.
package bridge_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// floors lists the packages from the ground up: each may import those on floors
// below its own, and none beside or above.
var floors = [][]string{
	{"files", "retry", "awserr", "plural", "spelling"},
	{"fleet", "zmtp", "event", "api", "audit", "cloudwatch", "metrics"},
	{"fleet/sqlite", "fleet/dynamo", "fleet/fleettest", "bus", "salt", "decide", "lastrun", "autoscaling", "identity",
		"health", "member"},
	{"relay", "admission"},
	{"service", "agent", "doctor"},
	{"config"},
	{"awsenv"},
	{"open"},
	{"admin", "compose"},
	{"ui"},
	{"cli"},
	{"cmd/phoenix"},
}

func TestImportsPointDown(t *testing.T) {
	floor := map[string]int{}
	for i, names := range floors {
		for _, name := range names {
			floor["phoenix/bridge/"+name] = i
		}
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		pkg, imports, _ := strings.Cut(line, " ")
		if pkg == "phoenix/bridge" {
			continue // this test
		}
		own, known := floor[pkg]
		if !known {
			t.Errorf("%s stands on no floor: give it one here", pkg)
		}
		delete(floor, pkg)
		for _, imported := range strings.Fields(imports) {
			other, ours := floorOf(imported)
			if ours && other >= own {
				t.Errorf("%s (floor %d) imports %s (floor %d)", pkg, own, imported, other)
			}
		}
	}
	for pkg := range floor {
		t.Errorf("%s stands on a floor, but is not there", pkg)
	}
}

func floorOf(path string) (int, bool) {
	name, ours := strings.CutPrefix(path, "phoenix/bridge/")
	if !ours {
		return 0, false
	}
	return slices.IndexFunc(floors, func(names []string) bool { return slices.Contains(names, name) }), true
}

// The vocabulary and the rules are pure: nothing in them can wait, write or send.
func TestVocabularyAndRulesArePure(t *testing.T) {
	for pkg, allowed := range map[string][]string{
		"./fleet": {"bytes", "context", "crypto/rsa", "crypto/sha256", "crypto/x509", "encoding/hex",
			"encoding/json", "encoding/pem", "errors", "fmt", "maps", "slices", "strings", "time"},
		"./decide": {"cmp", "fmt", "slices", "strconv", "strings", "time", "phoenix/bridge/fleet"},
	} {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports " "}}`, pkg).Output()
		if err != nil {
			t.Fatalf("list %s: %v", pkg, err)
		}
		for _, imported := range strings.Fields(string(out)) {
			if !slices.Contains(allowed, imported) {
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
}

// Doctor looks at a master and connects to nothing: a connection to the event bus
// costs the master memory that it does not give back (3008.2).
func TestDoctorConnectsToNothing(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{join .Imports " "}}`, "./doctor").Output()
	if err != nil {
		t.Fatalf("list doctor: %v", err)
	}
	for _, imported := range strings.Fields(string(out)) {
		if slices.Contains([]string{"net", "net/http", "os/exec", "syscall", "phoenix/bridge/bus",
			"phoenix/bridge/zmtp", "phoenix/bridge/api"}, imported) {
			t.Errorf("doctor imports %s", imported)
		}
	}
}
