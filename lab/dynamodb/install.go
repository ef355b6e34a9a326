package dynamodb

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"phoenix/lab"
)

//go:embed pom.xml
var pom string

//go:embed Local.java
var launcher string

// Install puts DynamoDB Local below .cache and returns its folder. One that is
// complete is left alone; one that was interrupted, or made from another pom.xml
// or Local.java, is made anew.
func Install() (dir string, err error) {
	root, err := lab.Root()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(root, ".cache", "dynamodb-local")
	sum := sha256.Sum256([]byte(pom + launcher))
	want := hex.EncodeToString(sum[:]) + "\n"
	stamp := filepath.Join(dir, "complete")
	isComplete := func() bool {
		got, err := os.ReadFile(stamp)
		return err == nil && string(got) == want
	}
	if isComplete() {
		return dir, need("java", "default-jdk-headless")
	}
	if err := errors.Join(need("javac", "default-jdk-headless"), need("mvn", "maven")); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	// The tests of several packages at once: one installs, the others wait.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if isComplete() {
		return dir, nil
	}
	if err := install(dir); err != nil {
		return "", fmt.Errorf("install DynamoDB Local: %w", err)
	}
	return dir, os.WriteFile(stamp, []byte(want), 0o644)
}

func install(dir string) error {
	// A link is removed as a link: what it points to is not ours.
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"pom.xml": pom, "Local.java": launcher} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, command := range [][]string{
		{"mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies", "-DoutputDirectory=" + dir},
		{"javac", "-cp", "*", "Local.java"},
	} {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
		}
	}
	return nil
}

func need(command, debian string) error {
	if _, err := exec.LookPath(command); err != nil {
		return fmt.Errorf("DynamoDB Local needs %s (on Debian: apt install %s)", command, debian)
	}
	return nil
}
