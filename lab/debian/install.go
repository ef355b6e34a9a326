package debian

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"phoenix/lab"
)

const (
	suite = "bookworm"
	// packages are what an image of a cloud has, and a minimal Debian has not.
	packages = "systemd,systemd-sysv,dbus,ca-certificates,curl,python3-venv,procps"
)

// install makes the Debian that roots are based on, below .cache, unless it is there. One
// with further packages has a name of its own.
func install(name, further string) (dir string, err error) {
	packages := packages + further
	root, err := lab.Root()
	if err != nil {
		return "", err
	}
	cache, err := filepath.EvalSymlinks(filepath.Join(root, ".cache"))
	if err != nil {
		return "", err
	}
	dir = filepath.Join(cache, "debian-"+suite+name)
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	stamp := dir + ".complete" // written last
	if had, err := os.ReadFile(stamp); err == nil && string(had) == packages {
		return dir, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	args := []string{"--variant=minbase", "--include=" + packages, suite, dir}
	if mirror := mirror(); mirror != "" {
		args = append(args, mirror)
	}
	if out, err := exec.Command("debootstrap", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("install Debian: debootstrap %v: %w\n%s", args, err, tail(string(out)))
	}
	return dir, os.WriteFile(stamp, []byte(packages), 0o644)
}

var uri = regexp.MustCompile(`(?m)^(?:URIs:|deb(?: \[[^]]*\])?)\s+(\S+)`)

// mirror is where this machine has its Debian from; empty: where debootstrap does.
func mirror() string {
	files, _ := filepath.Glob("/etc/apt/sources.list.d/debian.sources") // the pattern is a good one
	for _, file := range append(files, "/etc/apt/sources.list") {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, found := range uri.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(found[1], "security") {
				return found[1]
			}
		}
	}
	return ""
}

// tail is as much of an output as a message bears.
func tail(out string) string {
	const most = 4000
	return out[max(0, len(out)-most):]
}
