package cloudformation

import (
	"os/exec"
	"strings"
	"testing"
)

// TestNamedTests: each test that the pages on the threat model and on backups name is
// there.
func TestNamedTests(t *testing.T) {
	out, err := exec.Command("grep", "-rhoE", `^func Test[A-Za-z0-9_]+`, "..", "--include=*_test.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		there[strings.TrimPrefix(strings.TrimSpace(line), "func ")] = true
	}
	for _, page := range []string{"threat-model.md", "backup.md"} {
		named := matches(read(t, "../docs/"+page), "`(Test[A-Za-z0-9_]+)`")
		if len(named) == 0 {
			t.Errorf("%s names no test", page)
		}
		for _, name := range named {
			if !there[name] {
				t.Errorf("%s names %s, which is not there", page, name)
			}
		}
	}
}
