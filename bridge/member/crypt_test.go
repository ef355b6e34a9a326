package member

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"math/big"
	"testing"
)

func testKey(t testing.TB) *cipherKey {
	raw := make([]byte, aesSize+macSize)
	_, _ = rand.Read(raw)
	k, err := newCipherKey([]byte(base64.StdEncoding.EncodeToString(raw) + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestDecryptGivesWhatWasEncrypted(t *testing.T) {
	k := testKey(t)
	for n := range 40 {
		message := bytes.Repeat([]byte{byte(n)}, n)
		if got, err := k.decrypt(k.encrypt(message)); err != nil || !bytes.Equal(got, message) {
			t.Errorf("%d bytes: %q, %v", n, got, err)
		}
	}
	if _, err := testKey(t).decrypt(k.encrypt([]byte("x"))); !errors.Is(err, errMAC) {
		t.Errorf("another key: %v", err)
	}
	text := k.encrypt([]byte("a job"))
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1
		if _, err := k.decrypt(bad); !errors.Is(err, errMAC) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	k := testKey(f)
	f.Add(k.encrypt([]byte("a job")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = k.decrypt(text)
		_, _ = k.decrypt(append(bytes.Clone(text), k.sum(text)...)) // authentic, and nonsense
	})
}

// The token is what salt.utils.rsax931 takes for "salt": with the public key it gives
// the padded word, or its complement.
func TestTokenIsSigned(t *testing.T) {
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).SetBytes(id.token)
	m := new(big.Int).Exp(s, big.NewInt(int64(id.key.E)), id.key.N)
	if m.Bit(0) != 0 || m.Bit(1) != 0 || m.Bit(2) == 0 { // the last digit is not 0x…c
		m.Sub(id.key.N, m)
	}
	b := m.Bytes()
	if b[0] != 0x6b || b[len(b)-1] != 0xcc || !bytes.HasSuffix(b[:len(b)-1], []byte("\xbb\xbasalt")) {
		t.Errorf("% x", b)
	}
}

func TestFoldersAreSwept(t *testing.T) {
	dir := t.TempDir()
	old, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	now, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(old.writeKey(dir), now.writeKey(dir), now.writeKey(dir)); err != nil {
		t.Fatal(err)
	}
	if err := sweep(dir, now.id); err != nil {
		t.Fatal(err)
	}
	m := &Member{config: Config{KeyFolder: dir, Sessions: dir}, identity: now}
	if err := m.Leave(); err != nil {
		t.Fatal(err)
	}
	if err := m.Leave(); err != nil {
		t.Errorf("once more: %v", err)
	}
	if err := sweep(dir, ""); err != nil {
		t.Fatal(err)
	}
}
