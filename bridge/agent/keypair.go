package agent

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"phoenix/bridge/files"
)

// The names that the minion's key pair has in pki_dir.
const (
	privateName = "minion.pem"
	publicName  = "minion.pub"
)

const (
	// keySize is Salt's default for a minion (3006 to 3008: keysize: 2048).
	keySize = 2048
	// keySizeMost bounds what a configuration can ask for: 8192 bits take seconds.
	keySizeMost = 8192

	// Salt's modes (salt.crypt.gen_keys, 3006 and 3007; 3008 makes the public one 0400).
	privateMode = 0o400
	publicMode  = 0o644
	pkiMode     = 0o700
)

// MakeKey makes the minion's key pair, as "salt-key --gen-keys" and a minion at its
// first start do, so that masters can know the public one before the minion asks for the
// first time. It makes none, and returns false, where a minion runs, one of both files is
// there, or the minion would keep its pair elsewhere.
func (l *Local) MakeKey() (made bool, err error) {
	private, public := filepath.Join(l.minion.PKIDir, privateName), filepath.Join(l.minion.PKIDir, publicName)
	size, ordinary := l.keySettings()
	if !ordinary || l.pid() != 0 || exists(private) || exists(public) || l.starts() {
		return false, nil
	}
	uid, err := l.minionUser()
	if err != nil {
		return false, fmt.Errorf("make key: %w", err)
	}
	key, err := rsa.GenerateKey(rand.Reader, size)
	if err != nil {
		return false, fmt.Errorf("make key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return false, fmt.Errorf("make key: %w", err)
	}
	if err := makeFolder(l.minion.PKIDir, uid); err != nil {
		return false, fmt.Errorf("make key: %w", err)
	}
	// A minion makes a pair where the private key is missing, and never a public key
	// alone. So the private one comes last: whatever a crash leaves behind will do.
	err = placeNew(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), publicMode, uid)
	if err == nil {
		text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
		err = placeNew(private, text, privateMode, uid)
	}
	if errors.Is(err, fs.ErrExist) {
		return false, nil // the minion came first, and has written both
	}
	if err != nil {
		return false, fmt.Errorf("make key: %w", err)
	}
	return true, nil
}

// keySettings returns the size of the key, and reports whether it is kept in files.
func (l *Local) keySettings() (size int, ordinary bool) {
	size = keySize
	if set, ok := l.minion.Options["keysize"]; ok {
		if size, ok = set.(int); !ok || size < keySize || size > keySizeMost {
			return 0, false
		}
	}
	// 3008 reads the pair through that driver; older ones do not know the option.
	driver, set := l.minion.Options["keys.cache_driver"]
	return size, !set || driver == nil || driver == "localfs_key"
}

// minionUser is the user that the minion runs as, who owns its key.
func (l *Local) minionUser() (uid int, err error) {
	name, _ := l.minion.Options["user"].(string)
	if name == "" || name == "root" {
		return 0, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Uid)
}

// makeFolder makes pki_dir where it is missing, as Salt does at its start
// (salt.utils.verify.verify_env).
func makeFolder(path string, uid int) error {
	if exists(path) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(path, pkiMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return chownTo(path, uid)
}

// placeNew makes a file whole, or not at all. One that is there stays: fs.ErrExist.
func placeNew(path string, text []byte, mode fs.FileMode, uid int) (err error) {
	folder, name := filepath.Split(path)
	temp := filepath.Join(folder, "."+name+".new")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	_, err = f.Write(text)
	for _, step := range []func() error{func() error { return f.Chmod(mode) },
		func() error { return chownTo(temp, uid) }, f.Sync} {
		if err == nil {
			err = step()
		}
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	// Unlike a rename, a link never replaces what is there.
	if err := os.Link(temp, path); err != nil {
		return err
	}
	return files.SyncFolder(folder)
}

// chownTo gives a file to the user, and leaves its group, as Salt does.
func chownTo(path string, uid int) error {
	if uid == os.Geteuid() {
		return nil
	}
	return os.Chown(path, uid, -1)
}
