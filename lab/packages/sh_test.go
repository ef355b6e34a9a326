//go:build packages

package packages

import (
	"os/exec"
	"testing"
)

// sh runs a line of shell on this machine.
func sh(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("bash", "-o", "pipefail", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}
