package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"phoenix/bridge/fleet"
)

const (
	// keyBits is what Salt makes for a master where its configuration does not
	// say (keysize; alike in 3006.28, 3007.15 and 3008.3).
	keyBits = 2048
	// maxKeyBits bounds the keys that are taken: each answer to a minion's auth request
	// costs the master one operation with its own.
	maxKeyBits = 16384
	// maxPEM bounds a file that should hold a key: a private one of 16384 bits
	// needs 13 KiB.
	maxPEM = 64 << 10
)

// Pair is a master's key pair.
type Pair struct {
	Private []byte // PEM
	Public  []byte // PEM, as the master serves it
	Digest  string // fleet.KeyDigest of Public
}

// String keeps the private half out of logs.
func (p Pair) String() string { return "master key " + p.Digest }

// makePair makes a key pair, written as Salt writes it.
func makePair() (Pair, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return Pair{}, fmt.Errorf("make key pair: %w", err)
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return checkPair(private, nil)
}

// checkPair makes sure that both halves are of one RSA key. Without a public
// half it is derived, as Salt does: that file is written after the other.
func checkPair(private, public []byte) (Pair, error) {
	key, err := parsePrivate(private)
	if err != nil {
		return Pair{}, fmt.Errorf("read private key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return Pair{}, fmt.Errorf("read private key: %w", err)
	}
	derived := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	digest, err := fleet.KeyDigest(derived)
	if err != nil {
		return Pair{}, err
	}
	if len(public) == 0 {
		return Pair{private, derived, digest}, nil
	}
	shown, err := fleet.KeyDigest(public)
	if err != nil {
		return Pair{}, err
	}
	if shown != digest {
		return Pair{}, fmt.Errorf("public key %s does not belong to private key %s", shown, digest)
	}
	return Pair{private, public, digest}, nil
}

func parsePrivate(text []byte) (*rsa.PrivateKey, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("%d bytes are too many", len(text))
	}
	block, _ := pem.Decode(cleanLines(text))
	if block == nil {
		return nil, errors.New("not PEM")
	}
	if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") || block.Type == "ENCRYPTED PRIVATE KEY" {
		return nil, errors.New("it has a passphrase (key_pass of the master's configuration), which Phoenix does not know; " +
			"openssl rsa takes it off, and S3 encrypts the shared key with KMS")
	}
	var parsed any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("PEM holds a %.40q", block.Type)
	}
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key is a %T, not RSA", parsed)
	}
	if bits := key.N.BitLen(); bits > maxKeyBits {
		return nil, fmt.Errorf("key has %d bits", bits)
	}
	return key, key.Validate()
}

// Finger is what a minion's master_finger must say: Salt's own fingerprint of
// the file minion_master.pub, SHA-256 (hash_type) of the lines between the PEM's
// first and last. "salt-key -F master" shows the same on 3006.28 and 3007.15; on
// 3008.3 it hashes the whole text, which no minion agrees with (pem_finger in
// salt/utils/crypt.py).
func Finger(public []byte) string {
	var body [][]byte
	for line := range bytes.Lines(cleanLines(public)) {
		if len(bytes.TrimSpace(line)) > 0 {
			body = append(body, line)
		}
	}
	if len(body) < 2 {
		return ""
	}
	sum := sha256.Sum256(bytes.Join(body[1:len(body)-1], nil))
	digits := hex.EncodeToString(sum[:])
	var finger strings.Builder
	for i := 0; i < len(digits); i += 2 {
		if i > 0 {
			finger.WriteByte(':')
		}
		finger.WriteString(digits[i : i+2])
	}
	return finger.String()
}

// cleanLines is clean_key of salt/crypt.py: the text that a master serves, and a
// minion remembers and compares by its letters.
func cleanLines(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	return bytes.TrimSpace(text)
}
