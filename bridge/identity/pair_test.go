package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
)

func newPair(t testing.TB) Pair {
	t.Helper()
	pair, err := makePair()
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// The private key never stands in a log line, whatever the verb.
func TestPairIsPrintedWithoutItsSecret(t *testing.T) {
	pair := newPair(t)
	if text := pair.String(); strings.Contains(text, "PRIVATE") || !strings.Contains(text, pair.Digest) {
		t.Errorf("printed as %q", text)
	}
}

func TestPairIsOfOneRSAKey(t *testing.T) {
	pair, other := newPair(t), newPair(t)
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own, err := parsePrivate(pair.Private)
	if err != nil {
		t.Fatal(err)
	}
	inconsistent := *own
	inconsistent.Primes = other.key(t).Primes
	for name, test := range map[string]struct {
		private, public []byte
		want            string // "" : taken
	}{
		"both halves":            {pair.Private, pair.Public, ""},
		"public half is derived": {pair.Private, nil, ""},
		"PKCS8":                  {pkcs8(own), pair.Public, ""},
		"Windows line ends":      {[]byte(strings.ReplaceAll(string(pair.Private), "\n", "\r\n")), pair.Public, ""},
		"halves of two keys":     {pair.Private, other.Public, "does not belong to"},
		"elliptic curve":         {pkcs8(curve), nil, "not RSA"},
		"public as private":      {pair.Public, nil, `PEM holds a "PUBLIC KEY"`},
		"certificate": {[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), nil,
			`PEM holds a "CERTIFICATE"`},
		"passphrase": {[]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"),
			nil, "key_pass"},
		"passphrase, PKCS8": {[]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), nil, "key_pass"},
		"primes of another": {pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY",
			Bytes: x509.MarshalPKCS1PrivateKey(&inconsistent)}), nil, "read private key"},
		"empty": {nil, nil, "not PEM"},
		"garbage": {[]byte("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"), nil,
			"read private key"},
		"too long": {[]byte(strings.Repeat("x", maxPEM+1)), nil, "too many"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := checkPair(test.private, test.public)
			if test.want == "" {
				if err != nil || got.Digest != pair.Digest || string(got.Public) != string(pair.Public) {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func (p Pair) key(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := parsePrivate(p.Private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Salt's fingerprint ignores line ends and blank lines, and nothing else.
func TestFingerIgnoresLineEnds(t *testing.T) {
	public := newPair(t).Public
	want := Finger(public)
	if len(want) != 95 || Finger(newPair(t).Public) == want {
		t.Fatalf("finger %q", want)
	}
	for name, text := range map[string]string{
		"no newline at the end": strings.TrimSpace(string(public)),
		"Windows":               strings.ReplaceAll(string(public), "\n", "\r\n"),
		"blank lines":           "\n" + strings.ReplaceAll(string(public), "\n", "\n\n"),
	} {
		if got := Finger([]byte(text)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := Finger(nil); got != "" {
		t.Errorf("of nothing: %q", got)
	}
}
