package salt

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"phoenix/bridge/files"
)

// State is where a master holds a key, by Salt's name for it, which is also the
// name of the folder.
type State string

const (
	Accepted State = "minions"
	Pending  State = "minions_pre"
	Rejected State = "minions_rejected"
	Denied   State = "minions_denied"
)

// fileKeys is the key store of 3008 whose files are those of 3006 and 3007
// (salt/cache/localfs_key.py). Those two have no other and no such option.
const fileKeys = "localfs_key"

var (
	// ErrKeyStore is returned for a master whose keys are not in files. Up to 3008.5
	// such a master serves no minion, with or without Phoenix: it looks for the key of
	// who sends a request in pki_dir/minions, whatever the driver
	// (salt/channel/server.py, validate_token).
	ErrKeyStore = errors.New("only the key store in files (keys.cache_driver: localfs_key) is supported: with any other, Salt refuses the requests of accepted minions")
	// ErrNoKey is returned when there is no key for an id in that state.
	ErrNoKey = errors.New("no such key")
	// ErrOtherKey is returned when another key for that id is accepted already.
	ErrOtherKey = errors.New("another key is accepted")
	// ErrUnsettled is returned beside a text that is no whole public key, until the
	// same was seen for stableAfter: 3006 and 3007 write a key in place, so that who
	// reads it in that moment sees an empty file or a part. Look again; nothing
	// follows from such a text.
	ErrUnsettled = errors.New("it is being written, or is no key")
	// ErrChanged is returned when a key is not the one that was decided on.
	ErrChanged = errors.New("it is another key by now")
)

// maxSmall bounds files that hold one line or one key.
const maxSmall = 64 << 10

// maxKeyFile is more than any RSA public key needs. What an auth request may leave in
// minions_pre is limited by the master's max_message_size alone.
const maxKeyFile = 64 << 10

// Listing is the ids that a master holds keys for.
type Listing struct {
	Accepted, Pending, Rejected, Denied []string
	// Bad says of entries that are no key of an id what they are, by their names.
	// They are in no list, and concern no other.
	Bad map[string]error
}

// Keys is a master's key store: four folders with one file for each id. Its methods
// may be called by many goroutines, and many processes may work on one store, also
// over NFS.
type Keys struct {
	dir   string
	odd   oddFiles
	clean sync.Once // of what a crash left behind
}

// OpenKeys returns the key store of the master so configured. The folders need
// not be there yet: the master makes them when it starts.
func OpenKeys(c Config) (*Keys, error) {
	if c.KeysCacheDriver != fileKeys {
		return nil, fmt.Errorf("open key store %s: %w", c.KeysCacheDriver, ErrKeyStore)
	}
	return &Keys{dir: c.PKIDir}, nil
}

// List reads the four folders. What is not a regular file is no key. Salt 3006 and
// 3007 read a key through a symlink (os.path.isfile follows it), 3008 takes it for
// none (salt/cache/localfs_key.py): it is named in Bad, and not followed. Anybody
// who reaches the master can leave an odd id among the pending; those that reach
// neither Salt nor a path are in Bad as well.
func (k *Keys) List() (Listing, error) {
	var l Listing
	for state, ids := range map[State]*[]string{
		Accepted: &l.Accepted, Pending: &l.Pending, Rejected: &l.Rejected, Denied: &l.Denied,
	} {
		entries, err := os.ReadDir(filepath.Join(k.dir, string(state)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Listing{}, fmt.Errorf("list keys: %w", hint(err))
		}
		for _, e := range entries {
			// Salt leaves .key_cache and temporary files among the keys.
			if strings.HasPrefix(e.Name(), ".") {
				continue
			}
			err := files.NotRegular(e.Type())
			if err == nil {
				err = checkID(e.Name())
			}
			if err == nil {
				*ids = append(*ids, e.Name())
				continue
			}
			if l.Bad == nil {
				l.Bad = map[string]error{}
			}
			err = fmt.Errorf("%s: %w", filepath.Join(k.dir, string(state), e.Name()), err)
			l.Bad[e.Name()] = errors.Join(l.Bad[e.Name()], err) // one name may be bad in several states
		}
	}
	return l, nil
}

// Read returns the key as the minion sent it. ErrNoKey if there is none. A text that
// is no whole public key comes with ErrUnsettled, unless it has stayed the same for
// some seconds.
func (k *Keys) Read(id string, state State) ([]byte, error) {
	name := string(state) + "/" + id
	text, info, err := k.read(id, state)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = ErrNoKey
		k.odd.forget(name)
	case err != nil:
	case whole(text):
		k.odd.forget(name)
	case !k.odd.unchanged(name, info, text):
		return text, fmt.Errorf("read key %s in %s: %w", id, state, ErrUnsettled)
	}
	if err != nil {
		return nil, fmt.Errorf("read key %s in %s: %w", id, state, hint(err))
	}
	return text, nil
}

func (k *Keys) read(id string, state State) ([]byte, fs.FileInfo, error) {
	root, err := k.folder(id, state)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	f, text, info, err := readKey(root, id)
	if err != nil {
		return nil, nil, err
	}
	return text, info, f.Close()
}

// readKey returns an open file too: while it is open, no other file gets its inode.
func readKey(root *os.Root, id string) (f *os.File, text []byte, info fs.FileInfo, err error) {
	if f, err = openKey(root, id); err != nil {
		return nil, nil, nil, err
	}
	if info, err = f.Stat(); err == nil {
		text, err = io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	}
	if len(text) > maxKeyFile {
		// No key, whatever it begins with; one that is pending is to be unlinked, as any
		// other text that is none.
		text = fmt.Appendf(nil, "more than %d bytes, which begin with %x", maxKeyFile, sha256.Sum256(text))
	}
	if err != nil {
		f.Close()
		return nil, nil, nil, err
	}
	return f, text, info, nil
}

// openKey opens a key that is a file of its own. 3008 does not take a symlink
// for a key either, and a pipe would block.
func openKey(root *os.Root, id string) (*os.File, error) {
	switch info, err := root.Lstat(id); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, files.NotRegular(info.Mode().Type())
	}
	return root.Open(id)
}

// UnlinkPending takes a pending key out of the store, so that the minion with
// the right one can send an auth request: while it is there, Salt denies any other (tried).
// It was never accepted, so nothing rotates. seen is the text that was decided on:
// if another is there by now it stays, and the error is ErrChanged. No key there is
// a success.
func (k *Keys) UnlinkPending(id string, seen []byte) error {
	err := k.unlink(id, Pending, seen)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unlink pending key %s: %w", id, hint(err))
	}
	return nil
}

// unlink looks just before it removes a key, and just after. Between the look and
// the removal lie some microseconds in which nothing can be ruled out: a minion that
// loses its place by that sends another auth request within acceptance_wait_time (10 s).
func (k *Keys) unlink(id string, state State, seen []byte) error {
	root, err := k.folder(id, state)
	if err != nil {
		return err
	}
	defer root.Close()
	f, text, info, err := readKey(root, id)
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := root.Lstat(id)
	if err != nil {
		return err
	}
	if !bytes.Equal(text, seen) || !os.SameFile(now, info) {
		return ErrChanged
	}
	if err := root.Remove(id); err != nil {
		return err
	}
	// A network file system may say yes to what it has not done. Another file of that
	// name is a new key.
	if after, err := root.Lstat(id); err == nil && os.SameFile(after, info) {
		return errors.New("it is still there after it was removed")
	}
	return nil
}

// folder opens the folder of a state. No name reaches outside of it through an
// os.Root; the folder itself may be a symlink, as some operators have it.
func (k *Keys) folder(id string, state State) (*os.Root, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	return os.OpenRoot(filepath.Join(k.dir, string(state)))
}

// hint adds what to do about a lack of rights.
func hint(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (run as root or as the master's user)", err)
	}
	return err
}
