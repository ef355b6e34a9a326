package salt

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"
)

// keyMode is that of a key which 3006 and 3007 wrote under the usual umask; 3008
// writes 0600 and reads either. The folder keeps others out.
const keyMode = 0o644

// WriteAccepted lays down keys as accepted, byte for byte, without the master:
// it serves them at the minions' next knock, without event or rotation (tried).
// On 3008 a pending key for the same id hides the accepted one: unlink it after.
//
// A key that is there already is left alone. If another one is, it stays, and
// the error says ErrOtherKey; the error joins one for each id that was not
// written, and the others are written all the same.
func (k *Keys) WriteAccepted(keys map[string][]byte) (written []string, faults map[string]error, err error) {
	if len(keys) == 0 {
		return nil, nil, nil
	}
	w, err := newKeyWriter(k)
	if err != nil {
		return nil, nil, fmt.Errorf("write keys: %w", hint(err))
	}
	faults = map[string]error{}
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		fresh, err := w.write(id, keys[id])
		if err != nil {
			faults[id] = fmt.Errorf("write key %s: %w", id, hint(err))
		}
		if fresh {
			written = append(written, id)
		}
	}
	return written, faults, w.close()
}

// keyWriter writes into the folder of accepted keys.
type keyWriter struct {
	root *os.Root
	temp string
	uid  int
	gid  int
}

func newKeyWriter(k *Keys) (*keyWriter, error) {
	root, err := k.folder("any", Accepted)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	// Salt lists no name with a leading dot. One name for each process: what a
	// crash leaves behind does not pile up.
	w := &keyWriter{root: root, temp: fmt.Sprintf(".phoenix-%d", os.Getpid()), uid: -1, gid: -1}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		w.uid, w.gid = int(s.Uid), int(s.Gid)
	}
	return w, nil
}

// write lays down one key and says whether it did. The text is on disk before
// it has the id's name, and takes no other file's place: a link, unlike a
// rename, leaves a key that Salt accepted meanwhile.
func (w *keyWriter) write(id string, text []byte) (bool, error) {
	if same, err := w.same(id, text); same || err != nil {
		return false, err
	}
	if err := w.root.Remove(w.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	f, err := w.root.OpenFile(w.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, keyMode)
	if err != nil {
		return false, err
	}
	defer w.root.Remove(w.temp)
	_, err = f.Write(text)
	err = cmp.Or(err, f.Chmod(keyMode), f.Chown(w.uid, w.gid), f.Sync(), f.Close())
	if err != nil {
		return false, err
	}
	if err := w.root.Link(w.temp, id); errors.Is(err, fs.ErrExist) {
		_, err = w.same(id, text)
		return false, err
	} else if err != nil {
		return false, err
	}
	return true, nil
}

// same says whether that very key is accepted already; ErrOtherKey if another is.
func (w *keyWriter) same(id string, text []byte) (bool, error) {
	old, err := readKey(w.root, id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !bytes.Equal(old, text):
		return false, ErrOtherKey
	}
	return true, nil
}

// close makes the names durable, all of them at once.
func (w *keyWriter) close() error {
	defer w.root.Close()
	dir, err := w.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
