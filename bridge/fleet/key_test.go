package fleet_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/fleet"
)

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func pkix(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestKeyDigest: one key has one digest, in whatever text it comes.
func TestKeyDigest(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der := pkix(t, &key.PublicKey)
	sum := sha256.Sum256(der)
	want := hex.EncodeToString(sum[:])
	text := block("PUBLIC KEY", der)
	for name, form := range map[string][]byte{
		"PKIX":          text,
		"PKCS1":         block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&key.PublicKey)),
		"CRLF":          bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
		"CR":            bytes.ReplaceAll(text, []byte("\n"), []byte("\r")),
		"no last LF":    bytes.TrimSpace(text), // as Salt 3008 sends it
		"blanks around": []byte("\n\n" + string(text) + "\n \n"),
		"long lines":    []byte(longLines(string(text))),
	} {
		if got, err := fleet.KeyDigest(form); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
}

// longLines puts the base64 on one line.
func longLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[0] + "\n" + strings.Join(lines[1:len(lines)-1], "") + "\n" + lines[len(lines)-1] + "\n"
}

func TestKeyDigestRefuses(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := block("PUBLIC KEY", pkix(t, &private.PublicKey))
	for name, text := range map[string][]byte{
		"nothing":         nil,
		"text":            []byte("ssh-rsa AAAAB3Nza"),
		"not base64":      []byte("-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----\n"),
		"empty PEM":       block("PUBLIC KEY", nil),
		"junk DER":        block("PUBLIC KEY", []byte("junk")),
		"junk PKCS1":      block("RSA PUBLIC KEY", []byte("junk")),
		"trailing DER":    block("PUBLIC KEY", append(pkix(t, &private.PublicKey), 0)),
		"EC":              block("PUBLIC KEY", pkix(t, &ec.PublicKey)),
		"Ed25519":         block("PUBLIC KEY", pkix(t, ed)),
		"private key":     block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private)),
		"certificate":     block("CERTIFICATE", pkix(t, &private.PublicKey)),
		"cut":             good[:len(good)-40],
		"too large":       append(bytes.Clone(good), bytes.Repeat([]byte("\n"), 16<<10)...),
		"DER without PEM": pkix(t, &private.PublicKey),
		// Salt takes the first block, encoding/pem the second one.
		"two keys, the first malformed": append(append(bytes.TrimSpace(bytes.Clone(good)), "x\n"...), good...),
		"two keys":                      append(bytes.Clone(good), good...),
		"text before it":                append([]byte("# a key\n"), good...),
		"text behind it":                append(bytes.Clone(good), "a key\n"...),
		"a blank line in it":            bytes.Replace(good, []byte("\n"), []byte("\n\n"), 1),
		"headers":                       bytes.Replace(good, []byte("\n"), []byte("\nProc-Type: 4\n\n"), 1),
	} {
		got, err := fleet.KeyDigest(text)
		if err == nil || got != "" || !strings.HasPrefix(err.Error(), "read public key: ") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestKeyDigestOfOpenSSL: minions make their keys with OpenSSL, and the digest is
// what an admin gets from openssl on the command line (testdata/openssl/README.md).
func TestKeyDigestOfOpenSSL(t *testing.T) {
	want := strings.TrimSpace(string(openssl(t, "digest.txt")))
	for _, name := range []string{"pkix.pem", "pkcs1.pem"} {
		if got, err := fleet.KeyDigest(openssl(t, name)); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
	if got, err := fleet.KeyDigest(openssl(t, "ec.pem")); err == nil {
		t.Errorf("EC key has digest %s", got)
	}
}

func openssl(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "openssl", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// FuzzKeyDigest: no text crashes it, and a digest does not depend on line ends, nor
// on blanks around the text.
func FuzzKeyDigest(f *testing.F) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		f.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{
		nil, []byte("-----BEGIN PUBLIC KEY-----\n\n-----END PUBLIC KEY-----"),
		block("PUBLIC KEY", pkix(f, &key.PublicKey)),
		block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&key.PublicKey)),
		block("PUBLIC KEY", pkix(f, &ec.PublicKey)),
	} {
		f.Add(seed)
		f.Add(bytes.ReplaceAll(seed, []byte("\n"), []byte("\r\n")))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		digest, err := fleet.KeyDigest(text)
		if err != nil {
			if digest != "" {
				t.Errorf("digest %q with error %v", digest, err)
			}
			return
		}
		if len(digest) != 64 || strings.Trim(digest, "0123456789abcdef") != "" {
			t.Errorf("digest %q", digest)
		}
		unix := strings.ReplaceAll(strings.ReplaceAll(string(text), "\r\n", "\n"), "\r", "\n")
		for _, same := range []string{unix, strings.ReplaceAll(unix, "\n", "\r\n"), "\n" + unix + "\n"} {
			if len(same) > 16<<10 {
				continue
			}
			if again, err := fleet.KeyDigest([]byte(same)); err != nil || again != digest {
				t.Errorf("%q: %s, %v; %q: %s", text, digest, err, same, again)
			}
		}
	})
}
