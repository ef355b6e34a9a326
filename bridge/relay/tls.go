package relay

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// protocol keeps connections apart that are meant for something else.
const protocol = "phoenix-relay"

// Pair returns the masters' shared key.
type Pair func() (*rsa.PrivateKey, error)

// ReadPair reads the master's private key from the folder where Salt keeps it:
// master.pem, or from 3008 on <id>.pem.
func ReadPair(pkiDir, masterID string) Pair {
	names := []string{"master.pem"}
	if id := strings.TrimSuffix(masterID, "_master"); id != "" && !strings.Contains(id, "/") {
		names = []string{id + ".pem", "master.pem"}
	}
	return func() (*rsa.PrivateKey, error) {
		var missing error
		for _, name := range names {
			text, err := os.ReadFile(filepath.Join(pkiDir, name))
			if errors.Is(err, fs.ErrNotExist) {
				missing = err
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("read the masters' key: %w", err)
			}
			key, err := parsePrivate(text)
			if err != nil {
				return nil, fmt.Errorf("read the masters' key %s: %w", name, err)
			}
			return key, nil
		}
		return nil, fmt.Errorf("read the masters' key: %w", missing)
	}
}

func parsePrivate(text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil { // one with a passphrase (key_pass), too
		return nil, err
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it is a %T", parsed)
	}
	return key, nil
}

// digestOf is fleet.KeyDigest.
func digestOf(key *rsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// tlsConfig is for both ends of a connection between masters. Who holds the masters'
// key is one of them, and no other is: the certificate is made from that key on the
// spot, and only its key is checked. It is read anew for each connection, since the
// key may be replaced while the bridge runs.
func tlsConfig(pair Pair) (*tls.Config, error) {
	key, err := pair()
	if err != nil {
		return nil, err
	}
	own, err := digestOf(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	// Nobody checks the dates; TLS requires them.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: protocol},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), DNSNames: []string{protocol}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // there is no authority: VerifyConnection pins the key
		SessionTicketsDisabled: true, // each connection proves the key
		NextProtos:             []string{protocol},
		ServerName:             protocol,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errNotMaster
			}
			key, ok := state.PeerCertificates[0].PublicKey.(*rsa.PublicKey)
			if !ok {
				return errNotMaster
			}
			if digest, err := digestOf(key); err != nil || digest != own {
				return fmt.Errorf("%w: its key is %.12s, and the masters' is %.12s", errNotMaster, digest, own)
			}
			if state.NegotiatedProtocol != protocol {
				return fmt.Errorf("it speaks %q, not %s", state.NegotiatedProtocol, protocol)
			}
			return nil
		},
	}, nil
}

var errNotMaster = errors.New("the other end does not hold the masters' key")
