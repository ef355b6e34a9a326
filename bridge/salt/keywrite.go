package salt

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// keyMode is that of a key which 3006 and 3007 wrote under the usual umask; 3008
	// writes 0600 and reads either. The folder keeps others out.
	keyMode = 0o644
	// tempStem begins the names of files that are not keys yet.
	tempStem = ".phoenix-"
	// leftAfter: a temporary file that old, by the file server's clock, was left by a
	// crash. One is there for some milliseconds.
	leftAfter = time.Hour
	// fewKeys: so many are synced one by one; for more, the whole file system is, once.
	fewKeys = 8
)

// WriteAccepted lays down keys as accepted, byte for byte, without the master:
// it serves them at the minions' next auth request, without event or rotation (tried).
// On 3008 a pending key for the same id hides the accepted one: unlink it after.
//
// Each id fails by itself, and faults says why: ErrOtherKey if another key is
// accepted, which stays; ErrUnsettled if what is there is no whole key and may be
// being written: if it stays so, a later call replaces it, since that is what a loss
// of power leaves of a key. err is what concerns all: a folder that is missing or may
// not be written, a full disk; then the rest was not tried. written are the ids that
// had no such key before.
//
// What is written survives kill -9 at once, and a loss of power when it returns.
func (k *Keys) WriteAccepted(keys map[string][]byte) (written []string, faults map[string]error, err error) {
	faults = map[string]error{}
	todo := make([]string, 0, len(keys))
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		err := checkID(id)
		if n := len(keys[id]); err == nil && (n == 0 || n > maxKeyFile) {
			err = fmt.Errorf("%d bytes", n)
		}
		if err != nil {
			faults[id] = fmt.Errorf("write key %s: %w", id, err)
			continue
		}
		todo = append(todo, id)
	}
	if len(todo) == 0 {
		return nil, faults, nil
	}
	w, err := k.newKeyWriter(len(todo) <= fewKeys)
	if err != nil {
		return nil, faults, fmt.Errorf("write keys: %w", hint(err))
	}
	defer w.root.Close()
	for _, id := range todo {
		fresh, err := w.write(id, keys[id])
		if all := (*concernsAll)(nil); errors.As(err, &all) {
			return written, faults, errors.Join(fmt.Errorf("write key %s: %w", id, hint(err)), w.sync(len(written)))
		} else if err != nil {
			faults[id] = fmt.Errorf("write key %s: %w", id, hint(err))
		} else if fresh {
			written = append(written, id)
		}
	}
	if err := w.sync(len(written)); err != nil {
		return written, faults, fmt.Errorf("write keys: %w", hint(err))
	}
	return written, faults, nil
}

// concernsAll marks an error that each other key would meet as well.
type concernsAll struct{ error }

func (e *concernsAll) Unwrap() error { return e.error }

func forAll(err error) error {
	if err == nil {
		return nil
	}
	return &concernsAll{err}
}

// keyWriter writes into the folder of accepted keys.
type keyWriter struct {
	keys  *Keys
	root  *os.Root // the folder
	temps string   // where a file is made before it has an id's name
	stem  string   // of temporary names, this writer's own
	n     int
	each  bool // sync each file
	uid   int
	gid   int
}

func (k *Keys) newKeyWriter(each bool) (*keyWriter, error) {
	root, err := k.folder("any", Accepted)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	// By chance, and not by the process: two bridges in containers, which share a
	// pki_dir, are both process 1.
	w := &keyWriter{keys: k, root: root, temps: k.dir, stem: tempStem + rand.Text(), each: each, uid: -1, gid: -1}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		w.uid, w.gid = int(s.Uid), int(s.Gid)
	}
	// 3008's key cache can list names with a leading dot (localfs_key.list_), so that
	// temporary files belong outside of the folder: into the one above, unless that is
	// another file system, or closed to us.
	above, errAbove := os.Stat(k.dir)
	if errAbove != nil || !sameDevice(above, info) || unix.Access(k.dir, unix.W_OK) != nil {
		w.temps = root.Name()
	}
	k.clean.Do(w.cleanUp)
	return w, nil
}

func sameDevice(a, b fs.FileInfo) bool {
	x, okX := a.Sys().(*syscall.Stat_t)
	y, okY := b.Sys().(*syscall.Stat_t)
	return okX && okY && x.Dev == y.Dev
}

// cleanUp removes what crashes left behind. How old a file is, the file server's
// clock says: by a file that is made now. What it cannot do harms nobody.
func (w *keyWriter) cleanUp() {
	probe, err := w.make(nil)
	if err != nil {
		return
	}
	defer os.Remove(probe)
	now, err := os.Stat(probe)
	if err != nil {
		return
	}
	for _, dir := range []string{w.keys.dir, w.root.Name()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), tempStem) || !e.Type().IsRegular() {
				continue
			}
			if info, err := e.Info(); err == nil && now.ModTime().Sub(info.ModTime()) > leftAfter {
				_ = os.Remove(filepath.Join(dir, e.Name()))
			}
		}
	}
}

// make makes a temporary file with that text.
func (w *keyWriter) make(text []byte) (path string, err error) {
	w.n++
	path = filepath.Join(w.temps, fmt.Sprintf("%s-%d", w.stem, w.n))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, keyMode)
	if err != nil {
		return "", err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(keyMode)
	}
	if err == nil && w.uid >= 0 {
		err = f.Chown(w.uid, w.gid)
	}
	if err == nil && w.each {
		err = f.Sync()
	}
	if err = cmp.Or(err, f.Close()); err != nil {
		_ = os.Remove(path)
		return "", err
	}
	return path, nil
}

// write lays down one key and reports whether it did. The whole text is there before
// it has the id's name, and it takes no other key's place.
func (w *keyWriter) write(id string, text []byte) (bool, error) {
	found, err := w.there(id, text)
	if err != nil || found == same {
		return false, err
	}
	temp, err := w.make(text)
	if err != nil {
		return false, forAll(err)
	}
	to := filepath.Join(w.root.Name(), id)
	if found == broken {
		// Once more, just before: a master that has written it meanwhile goes first.
		if again, err := w.there(id, text); err != nil || again != broken {
			return false, cmp.Or(os.Remove(temp), err)
		}
		err = os.Rename(temp, to)
	} else {
		err = renameNew(temp, to)
	}
	if err == nil {
		w.keys.odd.forget(string(Accepted) + "/" + id)
		return true, nil
	}
	_ = os.Remove(temp)
	if errors.Is(err, fs.ErrExist) { // Salt, or another bridge, came first
		_, err := w.there(id, text)
		return false, err
	}
	for _, kind := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO, fs.ErrPermission} {
		if errors.Is(err, kind) {
			return false, forAll(err)
		}
	}
	return false, err
}

// renameNew gives a file a name that no other has.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	// NFS has no such flag. A link takes no other's place either.
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// place is what is found under an id.
type place int

const (
	free   place = iota
	same         // that very key
	broken       // no whole key, and nobody writes it
)

// there looks at what is accepted for an id. The error is ErrOtherKey for another
// key.
func (w *keyWriter) there(id string, text []byte) (place, error) {
	f, old, info, err := readKey(w.root, id)
	if errors.Is(err, fs.ErrNotExist) {
		return free, nil
	}
	if err != nil {
		return free, err
	}
	f.Close()
	switch {
	case bytes.Equal(old, text):
		return same, nil
	case whole(old):
		return free, ErrOtherKey
	case !w.keys.odd.unchanged(string(Accepted)+"/"+id, info, old):
		return free, ErrUnsettled
	}
	return broken, nil
}

// sync makes n keys durable, all of them at once.
func (w *keyWriter) sync(n int) error {
	if n == 0 {
		return nil
	}
	dir, err := w.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	if !w.each {
		// One for all: 3,000 files synced one by one took 3 s where this takes some ms.
		if err := unix.Syncfs(int(dir.Fd())); err != nil {
			return fmt.Errorf("sync %s: %w", dir.Name(), err)
		}
	}
	return dir.Sync()
}
