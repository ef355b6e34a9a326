package identity

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The modes that Salt gives to these files and to pki_dir (gen_keys in
// salt/crypt.py of 3006 and 3007; 3008 keeps both at 0400, and reads any).
const (
	privateMode fs.FileMode = 0o400
	publicMode  fs.FileMode = 0o644
	folderMode  fs.FileMode = 0o700
)

// tempName begins the name of a file that is being written: with a dot, so that
// Salt does not list it, and ended by the process that writes it.
const tempName = ".phoenix-identity-"

// Written says what a write did, by path.
type Written struct {
	Files []string // written
	Kept  []string // left as they are, though the shared ones differ
}

// write lays down an identity: the private key before the public one, which Salt
// can derive, so that whenever this is cut short, what is there is of one key.
// Each file appears whole or not at all, and none takes another's place, except
// that replace renews the files beside the key.
func (p *Place) write(id Identity, replace bool) (w Written, err error) {
	if err := p.makeFolder(p.dir); err != nil {
		return w, fmt.Errorf("make folder %s: %w%s", p.dir, err, permissionHint(err))
	}
	for _, f := range id.Files {
		name, below, listed := p.list.find(f.Path)
		if !listed {
			continue
		}
		if err := p.writeListed(name, below, f, replace, &w); err != nil {
			return w, fmt.Errorf("write %s: %w%s", p.list.at(f.Path), err, permissionHint(err))
		}
	}
	if err := p.writePair(id.Pair, &w); err != nil {
		return w, fmt.Errorf("write key pair into %s: %w%s", p.dir, err, permissionHint(err))
	}
	return w, nil
}

// writeListed writes one file of identity.files. It goes below pki_dir, the folder
// that is listed, or the one that holds the file: links lead nowhere out of that.
func (p *Place) writeListed(name, below string, f File, replace bool, w *Written) error {
	dir, path := p.dir, f.Path
	switch {
	case filepath.IsAbs(name) && below != "":
		dir, path = name, below
	case filepath.IsAbs(name):
		dir, path = filepath.Split(name)
	}
	if err := p.makeFolder(filepath.Clean(dir)); err != nil {
		return err
	}
	d, err := p.openFolder(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	for i, c := range path {
		if c == '/' {
			if err := d.mkdir(path[:i]); err != nil {
				return err
			}
		}
	}
	// Nobody but the owner may write; a private file stays private.
	what, err := d.put(path, f.Data, f.Mode&^0o022, bytes.Equal, replace)
	w.add(what, p.list.at(f.Path))
	return cmp.Or(err, d.sync(path))
}

// writePair writes the pair where this master's Salt finds it.
func (p *Place) writePair(pair Pair, w *Written) error {
	d, err := p.openFolder(p.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	name := "master"
	if p.id != "" {
		if info, err := d.root.Lstat(p.id + ".pem"); err == nil && info.Mode().IsRegular() {
			name = p.id // 3008 goes by this one, and looks at no other
		}
	}
	// Another text of the same private key is the same key. Of the public one it
	// is not: minions compare its letters.
	samePrivate := func(old, _ []byte) bool { _, err := checkPair(old, pair.Public); return err == nil }
	samePublic := func(old, new []byte) bool { return bytes.Equal(cleanLines(old), cleanLines(new)) }
	what, err := d.put(name+".pem", pair.Private, privateMode, samePrivate, d.isLink(name+".pem"))
	w.add(what, p.path(name+".pem"))
	if err == nil && what == kept {
		err = ErrOtherKey
	}
	if err != nil {
		return err
	}
	what, err = d.put(name+".pub", pair.Public, publicMode, samePublic, true)
	w.add(what, p.path(name+".pub"))
	return cmp.Or(err, d.sync(name+".pub"))
}

func (w *Written) add(r result, path string) {
	switch r {
	case written:
		w.Files = append(w.Files, path)
	case kept:
		w.Kept = append(w.Kept, path)
	}
}

// makeFolder makes a folder of the owner's where there is none, and those above
// it. It has its owner before it has its name.
func (p *Place) makeFolder(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above := filepath.Dir(dir)
	if err := p.makeFolder(above); err != nil {
		return err
	}
	d, err := p.openFolder(above)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.mkdir(filepath.Base(dir))
}

// folder writes files below one folder.
type folder struct {
	p    *Place
	root *os.Root
	temp string
}

func (p *Place) openFolder(dir string) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	d := &folder{p, root, tempName + strconv.Itoa(os.Getpid())}
	d.sweep()
	return d, nil
}

func (d *folder) Close() { d.root.Close() }

// isLink is so of a master.pem that 3008 left beside the file with its id. What
// such a link leads to was read as this master's key before; see Place.
func (d *folder) isLink(path string) bool {
	info, err := d.root.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

func (d *folder) mkdir(path string) error {
	if info, err := d.root.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if err := d.root.Mkdir(d.temp, folderMode); err != nil {
		return err
	}
	d.p.step("temporary " + path)
	err := d.root.Lchown(d.temp, d.p.uid, d.p.gid)
	if err == nil {
		err = d.root.Rename(d.temp, path)
	}
	if err != nil {
		_ = d.root.Remove(d.temp)
		return err
	}
	d.p.step("named " + path)
	return d.sync(path)
}

// result is what became of a file.
type result int

const (
	absent    result = iota
	unchanged        // it was there already
	written
	kept // another is there, and stays
)

// put writes a file, whole and on disk before it has its name. One that is there
// and differs stays, unless replace says otherwise; so does one that appears
// meanwhile: a link, unlike a rename, takes nobody's place.
func (d *folder) put(path string, data []byte, mode fs.FileMode, same func(old, new []byte) bool,
	replace bool) (result, error) {
	found, err := d.compare(path, data, same)
	if err != nil || found == unchanged || found == kept && !replace {
		return found, err
	}
	if err := d.writeTemp(data, mode); err != nil {
		return found, err
	}
	defer func() { _ = d.root.Remove(d.temp) }()
	d.p.step("temporary " + path)
	if replace {
		err = d.root.Rename(d.temp, path)
	} else {
		err = d.root.Link(d.temp, path)
	}
	if errors.Is(err, fs.ErrExist) {
		return d.compare(path, data, same)
	}
	if err != nil {
		return found, err
	}
	d.p.step("named " + path)
	return written, nil
}

// compare says what a write would meet: unchanged, kept, or nothing (absent). A
// link counts as another file, wherever it leads.
func (d *folder) compare(path string, data []byte, same func(old, new []byte) bool) (result, error) {
	info, err := d.root.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return absent, nil
	case err != nil:
		return absent, err
	case info.Mode()&fs.ModeSymlink != 0:
		return kept, nil
	}
	old, err := readBounded(d.root, path, maxObject)
	if err == nil && same(old, data) {
		return unchanged, nil
	}
	return kept, err
}

func (d *folder) writeTemp(data []byte, mode fs.FileMode) error {
	f, err := d.root.OpenFile(d.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, privateMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chown(d.p.uid, d.p.gid), f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		_ = d.root.Remove(d.temp)
	}
	return err
}

// sweep removes what a process that was killed left half-written: it may hold a
// private key.
func (d *folder) sweep() {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return // the write will say so
	}
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), tempName)
		if !ok {
			continue
		}
		pid, err := strconv.Atoi(text)
		if err == nil && (pid == os.Getpid() || pid > 0 && syscall.Kill(pid, 0) == syscall.ESRCH) {
			_ = d.root.Remove(e.Name())
		}
	}
}

// sync makes a file's name durable.
func (d *folder) sync(path string) error {
	dir, err := d.root.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
