package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"phoenix/bridge/files"
)

// keyStore are the folders of pki_dir with the minions' keys, which each master
// has its own of.
var keyStore = []string{"minions", "minions_pre", "minions_denied", "minions_rejected", "minions_autosign"}

// checkPath takes a path that names one file and no other way to it: clean, no
// climbing out, nothing that moves a terminal's cursor.
func checkPath(path string) error {
	switch {
	case path == "" || len(path) > 1024 || path == "/":
		return fmt.Errorf("path %.40q names no file", path)
	case strings.ContainsFunc(path, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd }):
		return fmt.Errorf("path %.80q: control character", path)
	case filepath.Clean(path) != path:
		return fmt.Errorf("path %s: write it as %s", path, filepath.Clean(path))
	case !filepath.IsAbs(path) && !filepath.IsLocal(path):
		return fmt.Errorf("path %s leaves pki_dir", path)
	case path == "master.pem" || path == "master.pub":
		return fmt.Errorf("path %s is the key pair itself, which is shared anyway", path)
	case slices.Contains(keyStore, strings.SplitN(path, "/", 2)[0]):
		return fmt.Errorf("path %s: minions' keys are not shared this way", path)
	}
	return nil
}

// list is identity.files: files, and folders with all that is below them.
type list struct {
	pkiDir string
	names  []string
}

func newList(pkiDir string, names []string) (list, error) {
	l := list{pkiDir: pkiDir}
	var faults []error
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, pkiDir+"/"); ok {
			name = rest
		}
		if err := checkPath(name); err != nil {
			faults = append(faults, err)
		}
		if slices.Contains(l.names, name) {
			continue
		}
		l.names = append(l.names, name)
	}
	return l, errors.Join(faults...)
}

// find says under which listed name a path falls: as the file itself, or (below)
// within a folder.
func (l list) find(path string) (name, below string, ok bool) {
	for _, name := range l.names {
		if path == name {
			return name, "", true
		}
		if rest, ok := strings.CutPrefix(path, name+"/"); ok {
			return name, rest, true
		}
	}
	return "", "", false
}

// at is where a listed name lies on this machine.
func (l list) at(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(l.pkiDir, name)
}

// read returns the files of the list that are on this machine, and the listed names
// that are not.
func (l list) read() (files []File, missing []string, err error) {
	left := maxFileBytes
	for _, name := range l.names {
		info, err := os.Stat(l.at(name))
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, name)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read shared file: %w", err)
		}
		dir, start := filepath.Dir(l.at(name)), filepath.Base(name)
		if info.IsDir() {
			dir, start = l.at(name), "."
		}
		found, err := readBelow(dir, start, left)
		if err != nil {
			return nil, nil, fmt.Errorf("read shared file %s: %w", name, err)
		}
		for _, f := range found {
			left -= len(f.Data)
			if info.IsDir() {
				f.Path = name + "/" + f.Path
			} else {
				f.Path = name
			}
			files = append(files, f)
		}
		if len(files) > maxFiles {
			return nil, nil, fmt.Errorf("read shared files: there are over %d", maxFiles)
		}
	}
	return files, missing, nil
}

// readBelow reads the regular files from start downwards, and no link out of
// dir: Salt's user owns the folder, and root may be who reads it.
func readBelow(dir, start string, left int) (files []File, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), start, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || start == "." && passing(entry.Name()) {
			return err
		}
		data, err := readBounded(root, path, left)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if left -= len(data); len(files) == maxFiles {
			return fmt.Errorf("over %d files", maxFiles)
		}
		files = append(files, File{path, info.Mode().Perm(), data})
		return nil
	})
	return files, err
}

// passing reports whether a file in a GPG home is of that machine's GPG alone: its
// locks, its seed, what it is writing.
func passing(name string) bool {
	return name == "random_seed" || strings.HasPrefix(name, ".#") || strings.HasPrefix(name, tempName) ||
		strings.HasSuffix(name, ".lock") || strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, "~")
}

// readBounded reads a file of at most so many bytes.
func readBounded(root *os.Root, path string, most int) ([]byte, error) {
	f, err := root.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	return files.ReadAll(f, int64(most))
}
