package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"phoenix/bridge/files"
)

// Config says where a master keeps its identity. All but Files is from the
// master's own configuration.
type Config struct {
	PKIDir string
	User   string   // the master's user, who shall own the files
	ID     string   // the master's id; empty: not set
	Files  []string // identity.files: relative to PKIDir, or absolute
}

// Place is where the master of this machine keeps its identity.
//
// 3006 and 3007 keep the pair as master.pem and master.pub. 3008 keeps it under
// the master's id: at its first start it takes over a master.pem, and leaves
// links of the old names. A link it does not take over: where there is no file
// with the master's id it makes a new pair, and so for one that was renamed
// (salt/crypt.py, MasterKeys._setup_keys).
type Place struct {
	dir      string
	id       string // "" or a name for files
	list     list
	uid, gid int // -1: as they come

	step func(label string) // called between the steps of a write; tests kill there
}

// Open finds the owner that the files shall have. Nothing else need be there.
func Open(c Config) (*Place, error) {
	dir := filepath.Clean(c.PKIDir)
	files, err := newList(dir, c.Files)
	if err != nil {
		return nil, fmt.Errorf("read identity.files: %w", err)
	}
	p := &Place{dir: dir, list: files, uid: -1, gid: -1, step: func(string) {}}
	// Salt appends "_master" to an id that it made of the host's name.
	if id := strings.TrimSuffix(c.ID, "_master"); id != "" && !strings.ContainsAny(id, "/\x00") {
		p.id = id
		if slices.Contains(files.names, id+".pem") || slices.Contains(files.names, id+".pub") {
			return nil, fmt.Errorf("read identity.files: %s.pem is the key pair itself, which is shared anyway", id)
		}
	}
	if os.Geteuid() == 0 {
		p.uid, p.gid, err = owner(c.User)
	} else if me, e := user.Current(); e == nil && me.Username != c.User {
		err = fmt.Errorf("%w: files must belong to %s (run as root or as the master's user)", fs.ErrPermission, c.User)
	}
	if err != nil {
		return nil, fmt.Errorf("open identity in %s: %w", dir, err)
	}
	return p, nil
}

func owner(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, fmt.Errorf("%w (the user of the master's configuration; Salt's packages make it)", err)
	}
	if uid, err = strconv.Atoi(u.Uid); err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	return uid, gid, err
}

// names are those under which the pair may lie, the one that 3008 goes by first.
func (p *Place) names() []string {
	if p.id == "" || p.id == "master" {
		return []string{"master"}
	}
	return []string{p.id, "master"}
}

// Pair returns the key pair of this machine's master; ErrNone if it has none yet.
func (p *Place) Pair() (Pair, error) {
	var private, public []byte
	var from string
	for _, name := range p.names() {
		pem, err := p.key(name + ".pem")
		if err != nil {
			return Pair{}, err
		}
		pub, err := p.key(name + ".pub")
		if err != nil {
			return Pair{}, err
		}
		switch {
		case pem == nil && pub == nil:
		case pem == nil:
			// Salt leaves no such thing behind.
			return Pair{}, fmt.Errorf("read %s: there is no private key beside it (move it away if its master is gone)",
				p.path(name+".pub"))
		case private == nil:
			private, public, from = pem, pub, name
		default:
			if err := sameKey(private, pem); err != nil {
				return Pair{}, fmt.Errorf("read %s and %s: %w", p.path(from+".pem"), p.path(name+".pem"), err)
			}
		}
		if pem != nil {
			if _, err := checkPair(pem, pub); err != nil {
				return Pair{}, fmt.Errorf("read %s: %w", p.path(name+".pem"), err)
			}
		}
	}
	if private == nil {
		return Pair{}, fmt.Errorf("read %s: %w", p.path("master.pem"), ErrNone)
	}
	return checkPair(private, public)
}

// sameKey: with two keys under two names, it depends on Salt's version which one
// is this master's.
func sameKey(one, other []byte) error {
	a, err := checkPair(one, nil)
	if err != nil {
		return err
	}
	b, err := checkPair(other, nil)
	if err == nil && a.Digest != b.Digest {
		err = fmt.Errorf("they hold different keys, %s and %s; move away the one that this master does not use",
			a.Digest, b.Digest)
	}
	return err
}

// Public returns the public key that this master serves, without its private half:
// it needs no more rights than the folder asks for.
func (p *Place) Public() ([]byte, error) {
	for _, name := range p.names() {
		if pub, err := p.key(name + ".pub"); err != nil || pub != nil {
			return pub, err
		}
	}
	return nil, fmt.Errorf("read %s: %w", p.path("master.pub"), ErrNone)
}

// held is the file with this master's private key.
func (p *Place) held() string {
	for _, name := range p.names() {
		if _, err := os.Stat(p.path(name + ".pem")); err == nil {
			return p.path(name + ".pem")
		}
	}
	return p.path("master.pem")
}

func (p *Place) path(name string) string { return filepath.Join(p.dir, name) }

// key reads one file of the pair; nil if there is none.
func (p *Place) key(name string) ([]byte, error) {
	info, err := os.Stat(p.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read key: %w%s", err, permissionHint(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read key: %s is not a file", p.path(name))
	}
	f, err := os.Open(p.path(name))
	if err != nil {
		return nil, fmt.Errorf("read key: %w%s", err, permissionHint(err))
	}
	defer f.Close()
	text, err := files.ReadAll(f, maxPEM)
	if err == nil && len(text) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", p.path(name), err)
	}
	return text, nil
}

func permissionHint(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return " (run as root or as the master's user)"
	}
	return ""
}
