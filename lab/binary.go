package lab

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
)

// Binary builds bin/phoenix as "make build" does, unless it is up to date, and
// returns its path. It looks once: all processes of a test are of one build.
var Binary = sync.OnceValues(build)

func build() (string, error) {
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
