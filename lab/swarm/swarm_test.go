package swarm

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"
)

func TestCrypticle(t *testing.T) {
	c, err := newCrypticle(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, keySize+macSize)))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 7, 8, 9, 15, 16, 1000} {
		plain := bytes.Repeat([]byte{'x'}, n)
		message := c.encrypt(plain)
		if got, err := c.decrypt(message); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: %q, %v", n, got, err)
		}
		for i := range message {
			broken := bytes.Clone(message)
			broken[i] ^= 1
			if _, err := c.decrypt(broken); !errors.Is(err, errMAC) {
				t.Fatalf("%d bytes, byte %d changed: %v", n, i, err)
			}
			if _, err := c.decrypt(message[:i]); !errors.Is(err, errMAC) {
				t.Fatalf("%d bytes, cut at %d: %v", n, i, err)
			}
		}
	}
	if _, err := newCrypticle("AAAA"); err == nil {
		t.Error("a short key was taken")
	}
}

// What X9.31 signs is read back as OpenSSL's RSA_public_decrypt does.
func TestSignX931(t *testing.T) {
	keys, err := newKeys(1)
	if err != nil {
		t.Fatal(err)
	}
	k := keys[0]
	if len(k.token) != k.Size() {
		t.Fatalf("%d bytes", len(k.token))
	}
	m := new(big.Int).Exp(new(big.Int).SetBytes(k.token), big.NewInt(int64(k.E)), k.N)
	if m.Bit(0)|m.Bit(1)<<1|m.Bit(2)<<2|m.Bit(3)<<3 != 12 {
		m.Sub(k.N, m)
	}
	got := m.FillBytes(make([]byte, k.Size()))
	if got[0] != 0x6b || !bytes.HasSuffix(got, []byte("\xbb\xbasalt\xcc")) {
		t.Errorf("% x", got)
	}
	pub, err := parsePublic(k.pub)
	if err != nil || !pub.Equal(k.Public().(*rsa.PublicKey)) {
		t.Errorf("%v", err)
	}
}

func TestJobIsFor(t *testing.T) {
	for _, c := range []struct {
		tgt     any
		tgtType string
		want    bool
	}{
		{"*", "glob", true}, {"i-*", "glob", true}, {"web-*", "glob", false}, {"i-0000?", "glob", true},
		{"i-0000[0-3]", "glob", true},
		{"i-00002", "", true}, {"i-0000", "glob", false}, {"[", "glob", false},
		{[]any{"i-00001", []byte("i-00002")}, "list", true}, {"i-00001,i-00002", "list", true},
		{[]any{"i-00001"}, "list", false},
		{"os:Debian", "grain", true},
	} {
		c1 := testCrypticle(t)
		load, err := marshal(map[string]any{"jid": "1", "fun": "test.ping", "tgt": c.tgt, "tgt_type": c.tgtType,
			"serial": 70000})
		if err != nil {
			t.Fatal(err)
		}
		payload, err := marshal(map[string]any{"enc": "aes", "load": c1.encrypt(load)})
		if err != nil {
			t.Fatal(err)
		}
		j, err := readJob(c1, payload)
		if err != nil || j.isFor("i-00002") != c.want || j.serial != 70000 {
			t.Errorf("%v: %+v, %v", c.tgt, j, err)
		}
	}
}

func testCrypticle(t *testing.T) *crypticle {
	t.Helper()
	c, err := newCrypticle(base64.StdEncoding.EncodeToString(make([]byte, keySize+macSize)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewRefuses(t *testing.T) {
	one := []string{"127.0.0.1:4506"}
	for want, cfg := range map[string]Config{
		"0 minions":           {Masters: one},
		"5001 minions":        {IDs: make([]string, 5001), Masters: one},
		"needs a master":      {IDs: []string{"a"}},
		"no loopback address": {IDs: []string{"a"}, Masters: []string{"192.0.2.1:4506"}},
		"missing port":        {IDs: []string{"a"}, Masters: []string{"127.0.0.1"}},
		`id "a/b"`:            {IDs: []string{"a/b"}, Masters: one},
		`id "*"`:              {IDs: []string{"*"}, Masters: one},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
