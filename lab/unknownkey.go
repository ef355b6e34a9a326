package lab

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
)

// UnknownKey is a well-formed RSA public key, new each time, of which nobody
// has the private half. It costs nothing, so that tests can have thousands.
func UnknownKey() string {
	n := make([]byte, 256)
	_, _ = rand.Read(n) // it never fails: see crypto/rand
	n[0] |= 0x80
	n[len(n)-1] |= 1
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537})
	if err != nil {
		panic(fmt.Sprintf("encode RSA public key: %v", err)) // unreachable: both numbers are well-formed
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// TryRequestAuth is [Master.RequestAuth] for any goroutine, and for a master that may
// not be there.
func (m *Master) TryRequestAuth(id, pem string) error {
	_, err := m.request(authTimeout,
		map[string]any{"cmd": "_auth", "id": id, "pub": pem, "nonce": "00000000000000000000000000000000"})
	return err
}
