package doctor

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// testFixes is the test that plants faults beside a master and a minion in files.
const testFixes = "bridge/doctor/real_test.go TestFixes"

// RunAsPrinted are the checks of which doctor prints commands, and the test that runs these
// as they are printed.
var RunAsPrinted = map[string]string{
	"salt-master":     "lab/e2e/doctor_fixes_test.go TestPrintedFixes",
	"event-bus":       "lab/e2e/doctor_fixes_test.go TestPrintedFixes",
	"request-port":    "lab/e2e/doctor_fixes_test.go TestPrintedFixes",
	"auth-events":     testFixes,
	"auto-accept":     testFixes,
	"open-mode":       testFixes,
	"permissive-pki":  testFixes,
	"autosign-file":   testFixes,
	"autosign-grains": testFixes,
	"autosign-folder": testFixes,
	"autoreject-file": testFixes,
	"old-runners":     testFixes,
	"job-cache":       testFixes, // and TestForeignJobs
	"shared-key":      testFixes,
	"key-not-rsa":     testFixes,
	"odd-keys":        testFixes,
	"hidden-key":      testFixes,
	"rejected-keys":   testFixes,

	"salt-minion":    "lab/e2e/doctor_fixes_test.go TestPrintedFixes",
	"cache-jobs":     testFixes,
	"jid-queue":      testFixes,
	"test-mode":      testFixes,
	"file-client":    testFixes,
	"startup-states": testFixes,
	"masters":        testFixes,
	"master-order":   testFixes,
	"alive-interval": testFixes,
	"keep-alive":     testFixes,
	"retry-dns":      testFixes,
	"rejected-retry": testFixes,
	"unit":           "bridge/doctor/actors_test.go TestUnitFix", // in another folder than systemd's
	"drop-in":        testFixes,                                  // and TestPrintedFixes, with an agent
	"agent":          "lab/e2e/doctor_fixes_test.go TestPrintedFixes",
	"master-key":     "lab/e2e/doctor_fixes_test.go TestPrintedFixes",

	"bridge":       "lab/e2e/doctor_fixes_test.go TestPrintedFixes", // and TestDoctorBesideABridge
	"removed-keys": "lab/e2e/doctor_bridge_test.go TestDoctorBesideABridge",
	"store":        "lab/e2e/doctor_fixes_test.go TestPrintedFixes",
	"clock":        "lab/e2e/doctor_fixes_test.go TestPrintedFixesOnAWS",
	"proof":        "lab/e2e/doctor_fixes_test.go TestPrintedFixesOnAWS",
}

// ForAPerson are the checks of which doctor prints no commands, and why a person must read
// what it prints.
var ForAPerson = map[string]string{
	"salt-config":           "a file has a fault that doctor does not correct, or the master another transport for a reason",
	"key-store":             "a change of keys.cache_driver leaves the keys of the former store behind",
	"reactor":               "what it does may be wanted, by another tag",
	"engines":               "what it does may be wanted, with another queue",
	"master-schedule":       "what it does may be wanted, without keys and states",
	"orchestration":         "whoever calls it must know",
	"cron":                  "what it does may be wanted, without keys and states",
	"publisher-blacklist":   "the list is somebody's rule: only what stops Phoenix is to go",
	"shared-folders":        "data must be moved, and a master stopped",
	"id-pattern":            "whether these ids are to be of the fleet is not known",
	"id-case":               "which of the ids the machine has, only the machine says",
	"denied-keys":           "the denied key may be the right one",
	"what-phoenix-would-do": "it is what an operator wants, or not",

	"minion-config":  "a file has a fault that doctor does not correct",
	"modules":        "the lists are somebody's rule: only what Phoenix needs is to change",
	"schedule":       "the job may be wanted, at another time",
	"master-names":   "the name must be corrected, here or in DNS",
	"master-ports":   "the port is closed there, or on the way",
	"alive-schedule": "the agent does it by itself at its next start; without an agent somebody edits the file",

	"configuration": "a line must be corrected",
	"relay":         "routes, security groups, or the master's configuration",
	"store-rows":    "what the row was meant to be, only who wrote it knows",
	"tables":        "the stack makes them",
	"queues":        "name, region or role is wrong",
	"groups":        "name, region or role is wrong",
	"permissions":   "an administrator of the account allows it",
	"fleet-key":     "which of the keys is right decides which minions must be told",
	"follow":        "another master must be started",
}

// Each check is either one whose commands a test runs as they are printed, or one that
// prints no commands; see TestFindings for what each prints.
func TestEachFixIsRunOrForAPerson(t *testing.T) {
	for _, c := range Checks() {
		test, why := RunAsPrinted[c.Name], ForAPerson[c.Name]
		if (test == "") == (why == "") {
			t.Errorf("%s: run by %q, and for a person because %q", c.Name, test, why)
		}
		if test != "" && !namesCheck(t, test, c.Name) {
			t.Errorf("%s does not name the check %s", test, c.Name)
		}
	}
	for _, of := range []map[string]string{RunAsPrinted, ForAPerson} {
		for check := range of {
			find(check) // panics if there is none
		}
	}
}

// namesCheck reports whether a test, given by file and function, is there, and its file has
// the name of a check as a string.
func namesCheck(t *testing.T, test, check string) bool {
	t.Helper()
	path, function, _ := strings.Cut(test, " ")
	text, err := os.ReadFile(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	there, named := false, false
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			there = there || n.Name.Name == function
		case *ast.BasicLit:
			named = named || n.Value == strconv.Quote(check)
		}
		return true
	})
	return there && named
}
