// Package shellcheck installs ShellCheck for tests: a pinned release from PyPI, the
// program itself in a wheel, below .cache.
package shellcheck

import (
	_ "embed" // for the pinned release
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"phoenix/lab"
)

//go:embed requirements.txt
var requirements []byte

// Install puts ShellCheck below .cache, unless it is there, and gives its path.
func Install() (program string, err error) {
	dir, unlock, err := lab.LockCache("shellcheck")
	if err != nil {
		return "", err
	}
	defer unlock()
	program, list := filepath.Join(dir, "bin", "shellcheck"), filepath.Join(dir, "requirements.txt")
	if had, err := os.ReadFile(list); err == nil && string(had) == string(requirements) {
		return program, nil
	}
	wanted := filepath.Join(dir, "wanted.txt")
	if err := os.WriteFile(wanted, requirements, 0o644); err != nil {
		return "", err
	}
	for _, command := range [][]string{
		{"python3", "-m", "venv", dir},
		{filepath.Join(dir, "bin", "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input",
			"--no-deps", "-r", wanted},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("install ShellCheck: %v: %w\n%s", command, err, out)
		}
	}
	return program, os.Rename(wanted, list) // written last
}
