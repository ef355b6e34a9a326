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
	block, _ := pem.Decode(text)
	if block == nil {
		return "", errors.New("read public key: not PEM")
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
