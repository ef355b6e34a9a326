package lab

import (
	"fmt"
	"os/exec"
	"path/filepath"
)

// Binary builds bin/phoenix as "make build" does, unless it is up to date, and
// returns its path.
func Binary() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("make", "--no-print-directory", "build")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build phoenix: %w\n%s", err, out)
	}
	return filepath.Join(root, "bin", "phoenix"), nil
}
