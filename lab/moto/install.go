package moto

import (
	"crypto/sha256"
	_ "embed" // for the list of packages
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"phoenix/lab"
)

//go:embed requirements.txt
var requirements []byte

// The Pythons that the list of packages was tried with: minor versions of 3.
const oldest, newest = 11, 13

// Install puts moto below .cache, unless it is there, and gives its interpreter.
// One that was interrupted, or whose list of packages changed since, is made
// anew.
func Install() (python string, err error) {
	root, err := lab.Root()
	if err != nil {
		return "", err
	}
	cache := filepath.Join(root, ".cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(cache, "moto.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	// The tests of several packages run at once: one installs, the others wait.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	dir := filepath.Join(cache, "moto")
	python = filepath.Join(dir, "bin", "python")
	sum := sha256.Sum256(requirements)
	want := hex.EncodeToString(sum[:]) + "\n"
	stamp := filepath.Join(dir, "complete") // written last
	if got, err := os.ReadFile(stamp); err == nil && string(got) == want {
		return python, nil
	}
	base, err := findPython()
	if err != nil {
		return "", err
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := run(base, "-m", "venv", dir); err != nil {
		return "", err
	}
	list := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(list, requirements, 0o644); err != nil {
		return "", err
	}
	if err := run(python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps", "-q", "-r",
		list); err != nil {
		return "", err
	}
	return python, os.WriteFile(stamp, []byte(want), 0o644)
}

// findPython finds an interpreter that suits, and can make an environment.
func findPython() (string, error) {
	names := []string{"python3"}
	for minor := newest; minor >= oldest; minor-- {
		names = append(names, fmt.Sprintf("python3.%d", minor))
	}
	check := fmt.Sprintf("import sys, venv, ensurepip; sys.exit(not (3, %d) <= sys.version_info[:2] <= (3, %d))",
		oldest, newest)
	for _, name := range names {
		if exec.Command(name, "-c", check).Run() == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("it needs Python 3.%d to 3.%d with venv, and there is none (on Debian: apt install python3-venv)", oldest, newest)
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("%s %v: %w", name, args, err), errors.New(string(out)))
	}
	return nil
}
