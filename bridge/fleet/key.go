package fleet

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxKey bounds the PEM that is parsed: an RSA key of 16384 bits needs 3 KiB.
const maxKey = 16 << 10

// KeyDigest is the identity of a public key: lower-case hex SHA-256 of the DER
// SubjectPublicKeyInfo. PEM of either kind ("PUBLIC KEY", "RSA PUBLIC KEY") and
// any line ends give the same digest. Only RSA is accepted: Salt has no other keys.
//
// Salt's own fingerprints are not stable: key.finger hashes the PEM body in 3006 and
// 3007, and the whole text in 3008.
func KeyDigest(text []byte) (string, error) {
	if len(text) > maxKey {
		return "", fmt.Errorf("read public key: %d bytes are too many", len(text))
	}
	// Salt 3006 strips and rejoins keys by its own rules; encoding/pem wants \n.
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	block, err := onlyBlock(text)
	if err != nil {
		return "", fmt.Errorf("read public key: %w", err)
	}
	key, err := parseRSA(block)
	if err != nil {
		return "", fmt.Errorf("read public key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("read public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// onlyBlock returns the PEM block that text consists of. Anything else is refused:
// encoding/pem passes over a block that it finds malformed and takes the next one,
// while Salt's library (cryptography) takes the first one. A text with two blocks
// would be one key for Phoenix and another for Salt.
func onlyBlock(text []byte) (*pem.Block, error) {
	text = bytes.TrimSpace(text)
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not PEM")
	}
	blank := false
	for line := range bytes.Lines(text) {
		blank = blank || len(bytes.TrimSpace(line)) == 0
	}
	if !bytes.HasPrefix(text, []byte("-----BEGIN ")) || bytes.Count(text, []byte("-----")) != 4 || blank ||
		len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("more than one PEM block")
	}
	return block, nil
}

func parseRSA(block *pem.Block) (*rsa.PublicKey, error) {
	if block.Type == "RSA PUBLIC KEY" {
		return x509.ParsePKCS1PublicKey(block.Bytes)
	}
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("PEM holds a %s", block.Type)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	rsaKey, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("key is a %T, not RSA", key)
	}
	return rsaKey, nil
}
