package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"phoenix/lab"
)

// newest is the newest Python 3 that a release was seen to work with: minor
// version. The master of 3006.28 on Python 3.12 never answers a publish; an old
// patch was tried on 3.11 only.
func newest(version string) int {
	if strings.HasPrefix(version, "3006.") || slices.Contains(lab.OldVersions(), version) {
		return 11
	}
	return 13
}

// oldest is the oldest Python 3 that the lists of packages are made for.
const oldest = 10

// findPython finds an interpreter that suits the release and can make virtual
// environments: python3, or one that is called by its version.
func findPython(version string) (string, error) {
	names := []string{"python3"}
	for minor := newest(version); minor >= oldest; minor-- {
		names = append(names, fmt.Sprintf("python3.%d", minor))
	}
	var unsuitable []string
	for _, name := range names {
		out, err := exec.Command(name, "-c", "import sys; print(sys.version_info[1])").Output()
		if err != nil {
			continue // not there
		}
		var minor int
		if _, err := fmt.Sscan(string(out), &minor); err != nil || minor < oldest || minor > newest(version) {
			unsuitable = append(unsuitable, fmt.Sprintf("%s is 3.%d", name, minor))
			continue
		}
		// Debian splits ensurepip off its Python.
		if err := exec.Command(name, "-c", "import venv, ensurepip").Run(); err != nil {
			unsuitable = append(unsuitable,
				fmt.Sprintf("%s has no venv (on Debian: apt install python3.%d-venv)", name, minor))
			continue
		}
		return name, nil
	}
	need := fmt.Sprintf("it needs Python 3.%d to 3.%d with venv", oldest, newest(version))
	if len(unsuitable) == 0 {
		return "", fmt.Errorf("%s, and there is none (on Debian: apt install python3-venv)", need)
	}
	return "", fmt.Errorf("%s, and %s", need, strings.Join(unsuitable, ", "))
}
