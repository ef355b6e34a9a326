// Command install puts pinned releases of Salt below .cache, each into a Python
// environment of its own: all of them, or those that are named.
//
//	go run ./lab/install 3007.17 3006.9
//	go run ./lab/install 3007              the newest of this series
//
// One that is complete is left alone; one that was interrupted, or whose list of
// packages changed since, is made anew.
package main

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"phoenix/lab"
)

//go:embed salt-*.txt
var requirements embed.FS

func main() {
	versions := os.Args[1:]
	if len(versions) == 0 {
		versions = append(lab.Versions(), lab.OldVersions()...)
	}
	for i, series := range versions {
		for _, version := range lab.Versions() {
			if strings.HasPrefix(version, series+".") {
				versions[i] = version
			}
		}
	}
	if err := install(versions); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func install(versions []string) error {
	root, err := lab.Root()
	if err != nil {
		return err
	}
	cache := filepath.Join(root, ".cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(cache, "install.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	// Two "make" at once: the second waits, and then finds all complete.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	slices.Sort(versions)
	versions = slices.Compact(versions) // two would make the same folder
	// All at once: each waits for the network a third of its time.
	faults := make([]error, len(versions))
	var installing sync.WaitGroup
	for i, version := range versions {
		installing.Go(func() {
			if err := installOne(cache, version); err != nil {
				faults[i] = fmt.Errorf("install Salt %s: %w", version, err)
			}
		})
	}
	installing.Wait()
	return errors.Join(faults...)
}

// installOne makes one environment. The stamp in it is written last, and says
// which list it was made from.
func installOne(cache, version string) error {
	list, err := requirements.ReadFile("salt-" + version + ".txt")
	if err != nil {
		return fmt.Errorf("no such release here; there are %s",
			strings.Join(append(lab.Versions(), lab.OldVersions()...), ", "))
	}
	sum := sha256.Sum256(list)
	want := hex.EncodeToString(sum[:]) + "\n"
	dir := filepath.Join(cache, "salt-"+version)
	stamp := filepath.Join(dir, "complete")
	if got, err := os.ReadFile(stamp); err == nil && string(got) == want && runs(dir) {
		return nil
	}
	python, err := findPython(version)
	if err != nil {
		return err
	}
	// A link is removed as a link: what it points to is not ours.
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	progress := newProgress(version, list)
	defer progress.stop()
	if err := progress.run(python, "-m", "venv", dir); err != nil {
		return err
	}
	file := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(file, list, 0o644); err != nil {
		return err
	}
	pip := []string{"-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps", "-r", file}
	if err := progress.run(filepath.Join(dir, "bin", "python"), pip...); err != nil {
		return err
	}
	return os.WriteFile(stamp, []byte(want), 0o644)
}

// runs reports whether the scripts of an environment find their interpreter. Each names
// it by its whole path, which is another one once the checkout was moved.
func runs(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "bin", "salt-call"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	_, err = os.Stat(strings.TrimPrefix(first, "#!"))
	return err == nil
}
