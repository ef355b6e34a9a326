package member

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
)

const (
	aesSize = 24 // AES-192 (salt.crypt.Crypticle.AES_BLOCK_SIZE, KEY_SIZE 192)
	macSize = sha256.Size
	// marker begins each plain text (Crypticle.PICKLE_PAD), from when it was one.
	marker = "pickle::"
)

var (
	// errMAC: the text was encrypted with another key, or is none.
	errMAC = errors.New("message authentication failed")
	// errPlain: authentic, and yet not what Salt encrypts.
	errPlain = errors.New("decrypted to no message of Salt")
)

// cipherKey is salt.crypt.Crypticle: AES-CBC, then HMAC-SHA256 over all of it.
type cipherKey struct {
	block cipher.Block
	mac   []byte
	raw   []byte
}

func (k *cipherKey) same(other *cipherKey) bool { return bytes.Equal(k.raw, other.raw) }

func newCipherKey(text []byte) (*cipherKey, error) {
	// auth_mode 2 appends the token to the key.
	text, _, _ = bytes.Cut(text, []byte("_|-"))
	raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil, fmt.Errorf("decode key: %w", err)
	}
	if len(raw) != aesSize+macSize {
		return nil, fmt.Errorf("decode key: %d bytes, not %d", len(raw), aesSize+macSize)
	}
	block, err := aes.NewCipher(raw[:aesSize])
	return &cipherKey{block: block, mac: raw[aesSize:], raw: raw}, err
}

func (k *cipherKey) sum(text []byte) []byte {
	mac := hmac.New(sha256.New, k.mac)
	mac.Write(text)
	return mac.Sum(nil)
}

func (k *cipherKey) encrypt(message []byte) []byte {
	fill := aes.BlockSize - (len(marker)+len(message))%aes.BlockSize
	text := make([]byte, aes.BlockSize, aes.BlockSize+len(marker)+len(message)+fill+macSize)
	_, _ = rand.Read(text) // it never fails
	text = append(append(text, marker...), message...)
	text = append(text, bytes.Repeat([]byte{byte(fill)}, fill)...)
	cipher.NewCBCEncrypter(k.block, text[:aes.BlockSize]).CryptBlocks(text[aes.BlockSize:], text[aes.BlockSize:])
	return append(text, k.sum(text)...)
}

// decrypt returns the message, after the nonce that answers begin with.
func (k *cipherKey) decrypt(text []byte) ([]byte, error) {
	n := len(text) - macSize
	if n < 2*aes.BlockSize || n%aes.BlockSize != 0 {
		return nil, errMAC
	}
	text, sum := text[:n], text[n:]
	if !hmac.Equal(k.sum(text), sum) {
		return nil, errMAC
	}
	plain := make([]byte, n-aes.BlockSize)
	cipher.NewCBCDecrypter(k.block, text[:aes.BlockSize]).CryptBlocks(plain, text[aes.BlockSize:])
	fill := int(plain[len(plain)-1])
	plain, marked := bytes.CutPrefix(plain, []byte(marker))
	if !marked || fill < 1 || fill > aes.BlockSize || fill > len(plain) {
		return nil, errPlain
	}
	return plain[:len(plain)-fill], nil
}

// tokenOf is the word "salt" signed as salt.utils.rsax931 does it, by which a
// master knows the holder of a key: OpenSSL's RSA_private_encrypt with
// RSA_X931_PADDING. The word is always the same one, so what time this takes says
// nothing to anybody.
func tokenOf(key *rsa.PrivateKey) []byte {
	word := []byte("salt")
	size := key.Size()
	padded := bytes.Repeat([]byte{0xbb}, size)
	padded[0] = 0x6b
	end := size - len(word) - 1
	padded[end-1] = 0xba
	copy(padded[end:], word)
	padded[size-1] = 0xcc
	s := new(big.Int).Exp(new(big.Int).SetBytes(padded), key.D, key.N)
	if other := new(big.Int).Sub(key.N, s); other.Cmp(s) < 0 {
		s = other
	}
	return s.FillBytes(make([]byte, size))
}
