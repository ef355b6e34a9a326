//go:build packages

// Package packages tries what "make package" makes on a Debian of its own. It needs
// root and Debian's tools; "make package-test" runs it.
package packages

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"phoenix/lab"
)

// dist is the folder of the packages, below the repository's root.
const dist = "dist"

// built returns the packages of a version for a processor: built once.
func built(t *testing.T, version, arch string) (deb, rpm string) {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if builds.done == nil {
		builds.done = map[string][2]string{}
	}
	files, done := builds.done[version+arch]
	if !done {
		root, err := lab.Root()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("packaging/build", arch)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "PACKAGE_VERSION="+version)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s for %s: %v\n%s", version, arch, err, out)
		}
		rpmArch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
		files = [2]string{filepath.Join(root, dist, "phoenix_"+version+"-1_"+arch+".deb"),
			filepath.Join(root, dist, "phoenix-"+version+"-1."+rpmArch+".rpm")}
		builds.done[version+arch] = files
	}
	return files[0], files[1]
}

var builds struct {
	sync.Mutex
	done map[string][2]string
}

// The two versions of the tests; one is newer.
const older, newer = "0.1", "0.2"

func sum(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return digest(text)
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// TestReproducible: built again, from another folder and under another umask, each
// package is the same.
func TestReproducible(t *testing.T) {
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	// A copy without its history, as an archive has it: version and time are given then.
	script := `mkdir "$1" && git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -C "$1" -xf - && cd "$1" && umask 077 && packaging/build amd64`
	deb, rpm := built(t, newer, "amd64")
	epoch, err := exec.Command("git", "-C", root, "show", "-s", "--format=%ct", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", script, "bash", elsewhere)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "PACKAGE_VERSION="+newer,
		"SOURCE_DATE_EPOCH="+strings.TrimSpace(string(epoch)))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build elsewhere: %v\n%s", err, out)
	}
	for _, file := range []string{deb, rpm} {
		if again := filepath.Join(elsewhere, dist, filepath.Base(file)); sum(t, again) != sum(t, file) {
			t.Errorf("%s is not the same when built again", filepath.Base(file))
		}
	}
}
