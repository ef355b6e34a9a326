package swarm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// crypticle is salt.crypt.Crypticle: AES-192-CBC, then HMAC-SHA256 over it.
type crypticle struct {
	block cipher.Block
	mac   []byte
}

const (
	keySize = 24
	macSize = sha256.Size
	// magic stands before each text (Crypticle.PICKLE_PAD).
	magic = "pickle::"
)

var (
	// errMAC: another key was used, as after a rotation of the AES key.
	errMAC   = errors.New("message authentication failed")
	errPlain = errors.New("decrypted to nonsense")
)

func newCrypticle(text string) (*crypticle, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, err
	}
	if len(raw) != keySize+macSize {
		return nil, fmt.Errorf("key of %d bytes", len(raw))
	}
	block, err := aes.NewCipher(raw[:keySize])
	if err != nil {
		return nil, err
	}
	return &crypticle{block: block, mac: raw[keySize:]}, nil
}

func (c *crypticle) encrypt(payload []byte) []byte {
	n := len(magic) + len(payload)
	fill := aes.BlockSize - n%aes.BlockSize
	out := make([]byte, aes.BlockSize+n+fill, aes.BlockSize+n+fill+macSize)
	rand.Read(out[:aes.BlockSize])
	copy(out[aes.BlockSize:], magic)
	copy(out[aes.BlockSize+len(magic):], payload)
	for i := len(out) - fill; i < len(out); i++ {
		out[i] = byte(fill)
	}
	cipher.NewCBCEncrypter(c.block, out[:aes.BlockSize]).CryptBlocks(out[aes.BlockSize:], out[aes.BlockSize:])
	return c.sum(out, out)
}

func (c *crypticle) sum(to, of []byte) []byte {
	h := hmac.New(sha256.New, c.mac)
	h.Write(of)
	return h.Sum(to)
}

func (c *crypticle) decrypt(message []byte) ([]byte, error) {
	if len(message) < 2*aes.BlockSize+macSize {
		return nil, errMAC
	}
	body, sum := message[:len(message)-macSize], message[len(message)-macSize:]
	if len(body)%aes.BlockSize != 0 || !hmac.Equal(c.sum(nil, body), sum) {
		return nil, errMAC
	}
	out := make([]byte, len(body)-aes.BlockSize)
	cipher.NewCBCDecrypter(c.block, body[:aes.BlockSize]).CryptBlocks(out, body[aes.BlockSize:])
	fill := int(out[len(out)-1])
	if fill < 1 || fill > aes.BlockSize || len(out)-fill < len(magic) || string(out[:len(magic)]) != magic {
		return nil, errPlain
	}
	return out[len(magic) : len(out)-fill], nil
}
