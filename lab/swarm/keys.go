package swarm

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
)

// key is an RSA key pair of minions.
type key struct {
	*rsa.PrivateKey
	pub   string // as an auth request has it
	token []byte // the text "salt", signed as salt.utils.rsax931 does
}

// bits is Salt's own keysize. Smaller ones are refused by Go and by Salt alike.
const bits = 2048

func newKeys(n int) ([]key, error) {
	keys := make([]key, n)
	for i := range keys {
		private, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
		if err != nil {
			return nil, err
		}
		text := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
		keys[i] = key{private, text, signX931(private, []byte("salt"))}
	}
	return keys, nil
}

// signX931 is OpenSSL's RSA_private_encrypt with RSA_X931_PADDING.
func signX931(k *rsa.PrivateKey, message []byte) []byte {
	size := k.Size()
	padded := make([]byte, size)
	start := size - len(message) - 1
	for i := 1; i < start-1; i++ {
		padded[i] = 0xbb
	}
	padded[0], padded[start-1], padded[size-1] = 0x6b, 0xba, 0xcc
	copy(padded[start:], message)
	s := new(big.Int).Exp(new(big.Int).SetBytes(padded), k.D, k.N)
	if other := new(big.Int).Sub(k.N, s); other.Cmp(s) < 0 {
		s = other
	}
	return s.FillBytes(make([]byte, size))
}

// Salt's minions up to 3008 ask for OAEP and PKCS #1 v1.5, both with SHA-1, by
// default.

func (k key) decrypt(message []byte) (string, error) {
	out, err := rsa.DecryptOAEP(sha1.New(), nil, k.PrivateKey, message, nil)
	return string(out), err
}

func encrypt(pub *rsa.PublicKey, text string) ([]byte, error) {
	return rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, []byte(text), nil)
}

func verify(pub *rsa.PublicKey, message, signature []byte) bool {
	sum := sha1.Sum(message)
	return rsa.VerifyPKCS1v15(pub, crypto.SHA1, sum[:], signature) == nil
}

func parsePublic(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text + "\n"))
	if block == nil {
		return nil, errors.New("no PEM")
	}
	if block.Type == "RSA PUBLIC KEY" {
		return x509.ParsePKCS1PublicKey(block.Bytes)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	pub, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("no RSA key")
	}
	return pub, nil
}

// nonceSize is that of salt.crypt: a UUID in hex.
const nonceSize = 32

func newNonce() string {
	var raw [nonceSize / 2]byte
	rand.Read(raw[:])
	return hex.EncodeToString(raw[:])
}
