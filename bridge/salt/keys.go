package salt

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
	// ErrKeyStore is returned for a master whose keys are not in files.
	ErrKeyStore = errors.New("only the key store in files (keys.cache_driver: localfs_key) is supported")
	// ErrNoKey is returned when there is no key for an id in that state.
	ErrNoKey = errors.New("no such key")
	// ErrOtherKey is returned when another key for that id is accepted already.
	ErrOtherKey = errors.New("another key is accepted")
	// ErrUnsettled is returned for a key file that is being written.
	ErrUnsettled = errors.New("key file is being written")
	// ErrChanged is returned when a key file has another text than was decided on.
	ErrChanged = errors.New("key file has changed")
)

// maxKeyFile is more than any RSA public key needs. What a knock may leave in
// minions_pre is limited by the master's max_message_size alone.
const maxKeyFile = 64 << 10

// Listing is the ids that a master holds keys for.
type Listing struct {
	Accepted, Pending, Rejected, Denied []string
	Bad                                 map[string]error // what lies there and is no key file
}

// Keys is a master's key store: four folders with one file for each id.
type Keys struct{ dir string }

// OpenKeys gives the key store of the master so configured. The folders need
// not be there yet: the master makes them when it starts.
func OpenKeys(c Config) (*Keys, error) {
	if c.KeysCacheDriver != fileKeys {
		return nil, fmt.Errorf("open key store %s: %w", c.KeysCacheDriver, ErrKeyStore)
	}
	return &Keys{dir: c.PKIDir}, nil
}

// List reads the four folders. The ids are as they stand there: anybody who
// reaches the master can leave an odd one among the pending.
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
			if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
				*ids = append(*ids, e.Name())
			}
		}
	}
	return l, nil
}

// Read gives the key as the minion sent it. ErrNoKey if there is none.
func (k *Keys) Read(id string, state State) ([]byte, error) {
	text, err := k.read(id, state)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNoKey
	}
	if err != nil {
		return nil, fmt.Errorf("read key %s in %s: %w", id, state, hint(err))
	}
	return text, nil
}

func (k *Keys) read(id string, state State) ([]byte, error) {
	root, err := k.folder(id, state)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return readKey(root, id)
}

func readKey(root *os.Root, id string) ([]byte, error) {
	f, err := openKey(root, id)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("longer than %d bytes", maxKeyFile)
	}
	return text, err
}

// openKey opens a key that is a file of its own. 3008 does not take a symlink
// for a key either, and a pipe would block.
func openKey(root *os.Root, id string) (*os.File, error) {
	switch info, err := root.Lstat(id); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("it is a %s, not a file", info.Mode().Type())
	}
	return root.Open(id)
}

// UnlinkPending takes a pending key out of the store, so that the minion with
// the right one can knock: while it lies there, Salt denies any other (tried).
// It was never accepted, so nothing rotates. No key there is a success.
func (k *Keys) UnlinkPending(id string, _ []byte) error {
	root, err := k.folder(id, Pending)
	if err == nil {
		err = root.Remove(id)
		root.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unlink pending key %s: %w", id, hint(err))
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
