package member

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// hidden begins the member's id. The leading dot is what hides it; the rest is new
// at each start, so that nobody can have sent an auth request under that name before.
const hidden = ".phoenix-relay-"

// keyBits: the key lives for one run of the bridge.
const keyBits = 2048

// identity is the member's name and key pair.
type identity struct {
	id    string
	key   *rsa.PrivateKey
	pub   string // PEM, as _auth sends it
	token []byte
}

func newIdentity() (identity, error) {
	name := make([]byte, 8)
	_, _ = rand.Read(name) // it never fails
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return identity{}, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return identity{}, fmt.Errorf("make key: %w", err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return identity{id: hidden + hex.EncodeToString(name), key: key, pub: strings.TrimSpace(text), token: tokenOf(key)},
		nil
}

// writeKey writes the public key among the accepted ones. It is there under its name
// with all of its text, or not at all.
func (i identity) writeKey(folder string) error {
	info, err := os.Stat(folder)
	if err != nil {
		return fmt.Errorf("place the relay's key: %w", err)
	}
	temp := filepath.Join(folder, i.id+".new")
	err = os.WriteFile(temp, []byte(i.pub), 0o644)
	if s, ok := info.Sys().(*syscall.Stat_t); err == nil && ok && os.Geteuid() == 0 {
		err = os.Chown(temp, int(s.Uid), int(s.Gid))
	}
	if err == nil {
		err = os.Rename(temp, filepath.Join(folder, i.id))
	}
	if err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("place the relay's key: %w", err)
	}
	return nil
}

// sweep takes away what members of earlier runs left in folder: a bridge that was
// killed takes nothing back. Nobody holds the private half any more.
func sweep(folder, except string) error {
	names, err := filepath.Glob(filepath.Join(folder, hidden+"*"))
	if err != nil {
		return err
	}
	var faults []error
	for _, name := range names {
		if filepath.Base(name) == except {
			continue
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, fmt.Errorf("remove an earlier key of the relay: %w", err))
		}
	}
	return errors.Join(faults...)
}
