package member

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
)

const (
	// authWithin: a master that starts may leave a request unanswered for ever; an
	// idle one answers in 20 ms. Who asks tries again.
	authWithin = 6 * time.Second
	// authLimit: an answer has some 2 KiB.
	authLimit = 64 << 10
	// The algorithms that all three Salts take from any minion.
	encAlgo = "OAEP-SHA1"
	sigAlgo = "PKCS1v15-SHA1"
)

// ErrNotAccepted: the master does not take the member's key.
var ErrNotAccepted = errors.New("the master does not accept the relay's key")

// ErrTooOld: the master gives its minions no session key, as 3006.9 and 3007.1 do not.
var ErrTooOld = errors.New("this Salt is too old for the relay")

// keys are what a master gives to an accepted minion.
type keys struct {
	publish *cipherKey // of what it publishes; new after each deletion of a key
	session *cipherKey // of the requests of this member alone
	former  *cipherKey // the publish key before: what was encrypted with it may be on its way still
	master  *rsa.PublicKey
}

// authenticate asks for the keys. The answer must be signed by the master whose
// key is on this host.
func (m *Member) authenticate(ctx context.Context) (keys, error) {
	if err := m.identity.writeKey(m.config.KeyFolder); err != nil {
		return keys{}, err
	}
	digest, err := m.config.MasterKey()
	if err != nil {
		return keys{}, err
	}
	nonce := newNonce()
	payload, err := msgpack.Marshal(map[string]any{"enc": "clear", "version": 3, "load": map[string]any{
		"cmd": "_auth", "id": m.identity.id, "pub": m.identity.pub, "nonce": nonce, "enc_algo": encAlgo,
		"sig_algo": sigAlgo}})
	if err != nil {
		return keys{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, authWithin)
	defer cancel()
	answer, err := m.request(ctx, m.config.RetEndpoint, payload, authLimit)
	if err != nil {
		return keys{}, err
	}
	k, err := m.identity.read(answer, nonce, digest)
	if err != nil {
		return keys{}, fmt.Errorf("authenticate: %w", err)
	}
	return k, nil
}

// ProveMaster asks the master for the keys, and returns an error unless the process that
// answers has the private half of the key that MasterKey names. The files on this host say
// what a master will have that is started, not what one has that runs.
func (m *Member) ProveMaster(ctx context.Context) error {
	_, err := m.authenticate(ctx)
	if errors.Is(err, ErrTooOld) { // its signature was verified
		return nil
	}
	return err
}

// read takes the keys from the answer to _auth: {enc, load, sig}, the load being
// msgpack within, signed as a whole.
func (i identity) read(answer []byte, nonce, digest string) (keys, error) {
	outer, err := event.Fields(answer)
	if err != nil {
		return keys{}, err
	}
	signed := event.Bytes(outer["load"])
	load, err := event.Fields(signed)
	if err != nil {
		return keys{}, err
	}
	if string(event.Bytes(load["nonce"])) != nonce {
		return keys{}, errors.New("the answer is to another question")
	}
	text := event.Bytes(load["pub_key"])
	if text == nil { // {"ret": …}: pending, rejected, denied or full
		return keys{}, ErrNotAccepted
	}
	master, err := parsePublic(text, digest)
	if err != nil {
		return keys{}, err
	}
	sum := sha1.Sum(signed)
	if err := rsa.VerifyPKCS1v15(master, crypto.SHA1, sum[:], event.Bytes(outer["sig"])); err != nil {
		return keys{}, fmt.Errorf("verify the master's signature: %w", err)
	}
	if load["session"] == nil {
		return keys{}, ErrTooOld
	}
	k := keys{master: master}
	for name, into := range map[string]**cipherKey{"aes": &k.publish, "session": &k.session} {
		plain, err := rsa.DecryptOAEP(sha1.New(), nil, i.key, event.Bytes(load[name]), nil)
		if err == nil {
			*into, err = newCipherKey(plain)
		}
		if err != nil {
			return keys{}, fmt.Errorf("decrypt %s: %w", name, err)
		}
	}
	return k, nil
}

// parsePublic reads the master's public key, which must be the one with digest.
func parsePublic(text []byte, digest string) (*rsa.PublicKey, error) {
	if got, err := fleet.KeyDigest(text); err != nil {
		return nil, fmt.Errorf("read the master's key: %w", err)
	} else if got != digest {
		return nil, fmt.Errorf("read the master's key: it is %s, and on this host lies %s", got, digest)
	}
	block, _ := pem.Decode(append(bytes.Clone(text), '\n'))
	if block == nil {
		return nil, errors.New("read the master's key: no PEM")
	}
	if key, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the master's key: %w", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("read the master's key: a %T", parsed)
	}
	return key, nil
}

func newNonce() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}
