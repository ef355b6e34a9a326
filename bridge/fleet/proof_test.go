package fleet_test

import (
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"phoenix/bridge/fleet"
)

// TestProofKey: a public key that is not the one of the proof's digest is none.
func TestProofKey(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := block("PUBLIC KEY", pkix(t, &key.PublicKey))
	digest, err := fleet.KeyDigest(text)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := (fleet.Proof{KeySHA256: digest, PublicKey: string(text)}).Key(); !ok || string(got) != string(text) {
		t.Errorf("%q, %v", got, ok)
	}
	for name, proof := range map[string]fleet.Proof{
		"none":           {},
		"digest alone":   {KeySHA256: digest},
		"key alone":      {PublicKey: string(text)},
		"another digest": {KeySHA256: digest[1:] + "0", PublicKey: string(text)},
		"no key":         {KeySHA256: digest, PublicKey: "PUBLIC KEY"},
	} {
		if _, ok := proof.Key(); ok {
			t.Errorf("%s: it has a key", name)
		}
	}
}
