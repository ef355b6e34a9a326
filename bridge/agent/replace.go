package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"phoenix/bridge/files"
)

// newMode is that of a file that was not there: Salt may run as another user.
const newMode = 0o644

// Step is called before each step of a change of files, with its label. Its error replaces
// the step. Tests kill the process there.
type Step func(label string) error

// replacement writes one file atomically: a reader sees the old text or the new one, also
// after a crash.
type replacement struct {
	step Step
	what string // in labels
}

// do replaces path's text, or makes it. Mode and owner stay as they were. A link
// stays one: what it points to is replaced.
func (r replacement) do(path string, text []byte) error {
	target, mode, owner, err := r.target(path)
	if err != nil {
		return err
	}
	folder, name := filepath.Split(target)
	// Salt's include takes no name with a leading dot. Always the same name: what a
	// crash leaves behind does not pile up.
	temp := filepath.Join(folder, "."+name+".new")
	if err := r.write(temp, text, mode, owner); err != nil {
		_ = os.Remove(temp) // a leftover is harmless
		return err
	}
	if err := r.at("rename", func() error { return os.Rename(temp, target) }); err != nil {
		_ = os.Remove(temp)
		return err
	}
	return r.at("sync folder", func() error { return files.SyncFolder(folder) })
}

// target finds what to replace, and what is to stay of it.
func (r replacement) target(path string) (target string, mode fs.FileMode, owner *syscall.Stat_t, err error) {
	target, err = filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if info, lstat := os.Lstat(path); lstat == nil && info.Mode()&fs.ModeSymlink != 0 {
			return "", 0, nil, fmt.Errorf("%s points to nothing", path)
		}
		return path, newMode, nil, nil
	}
	if err != nil {
		return "", 0, nil, err
	}
	info, err := os.Stat(target)
	if err != nil {
		return "", 0, nil, err
	}
	if !info.Mode().IsRegular() {
		return "", 0, nil, fmt.Errorf("%s is no file", target)
	}
	owner, _ = info.Sys().(*syscall.Stat_t)
	return target, info.Mode().Perm(), owner, nil
}

func (r replacement) write(temp string, text []byte, mode fs.FileMode, owner *syscall.Stat_t) error {
	var f *os.File
	err := r.at("create", func() (err error) {
		if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f, err = os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	for _, step := range []struct {
		label string
		do    func() error
	}{
		{"write", func() error { _, err := f.Write(text); return err }},
		{"chmod", func() error { return f.Chmod(mode) }},
		{"chown", func() error { return keepOwner(f, owner) }},
		// A failed sync is not retried on the same file: the kernel may have dropped the
		// pages that it could not write, and report success.
		{"sync", f.Sync},
	} {
		if err := r.at(step.label, step.do); err != nil {
			f.Close()
			return err
		}
	}
	return f.Close()
}

// keepOwner gives f the owner that the file had, where that is another.
func keepOwner(f *os.File, owner *syscall.Stat_t) error {
	if owner == nil {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if now, ok := info.Sys().(*syscall.Stat_t); !ok || now.Uid == owner.Uid && now.Gid == owner.Gid {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}

// at does one step, under its label.
func (r replacement) at(label string, do func() error) error {
	label = r.what + ": " + label
	if r.step != nil {
		if err := r.step(label); err != nil {
			return fmt.Errorf("%s: %w", label, err)
		}
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", label, err)
	}
	return nil
}
