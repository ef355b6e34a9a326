package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// LockCache makes the folder of this name below .cache and locks it until unlock is
// called: the tests of several packages run at once, one installs, the others wait.
func LockCache(name string) (dir string, unlock func(), err error) {
	root, err := Root()
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(root, ".cache", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		_ = lock.Close()
		return "", nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return dir, func() { _ = lock.Close() }, nil
}
