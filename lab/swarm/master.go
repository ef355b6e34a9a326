package swarm

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// requestConns to each master serve all minions: more than a master has workers.
const requestConns = 12

// master is one Salt master, as all minions that talk to it see it.
type master struct {
	host string
	*requests

	mu   sync.Mutex // guards what follows
	pub  *rsa.PublicKey
	pem  string
	aes  map[string]*crypticle // by the master's signature of the AES key
	jobs jobs
}

func newMaster(addr string, timeout time.Duration) (*master, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%s is no loopback address", addr)
	}
	return &master{host: host, requests: newRequests(addr, timeout), aes: map[string]*crypticle{}}, nil
}

// verdict is what a master says to an auth request.
type verdict int

const (
	pending verdict = iota
	rejected
	accepted
)

// creds are what a minion that was let in is given.
type creds struct {
	aes     *crypticle // of publishes: the same for all minions
	session *crypticle // of this minion's requests
	pubPort int
}

var errAnswer = errors.New("master's answer not understood")

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := msgpack.NewEncoder(&b)
	e.UseCompactInts(true)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// auth sends one auth request.
func (m *master) auth(ctx context.Context, id string, k key, secret string) (verdict, creds, error) {
	nonce := newNonce()
	load := map[string]any{"cmd": "_auth", "id": id, "nonce": nonce, "enc_algo": "OAEP-SHA1",
		"sig_algo": "PKCS1v15-SHA1", "pub": k.pub}
	m.mu.Lock()
	known := m.pub
	m.mu.Unlock()
	if known != nil {
		token, err := encrypt(known, secret)
		if err != nil {
			return 0, creds{}, err
		}
		load["token"] = token
	}
	body, err := marshal(map[string]any{"enc": "clear", "load": load, "version": 3})
	if err != nil {
		return 0, creds{}, err
	}
	if body, err = m.send(ctx, body); err != nil {
		return 0, creds{}, err
	}
	v, c, err := m.verdict(body, nonce, k)
	if err != nil {
		return 0, creds{}, fmt.Errorf("%w: %v: %.80q", errAnswer, err, body)
	}
	return v, c, nil
}

// verdict reads the answer to an auth request. It holds binary inside of strings.
func (m *master) verdict(body []byte, nonce string, k key) (verdict, creds, error) {
	var outer struct {
		Load []byte `msgpack:"load"`
		Sig  []byte `msgpack:"sig"`
	}
	if err := msgpack.Unmarshal(body, &outer); err != nil {
		return 0, creds{}, err
	}
	var in struct {
		Ret         any    `msgpack:"ret"`
		Nonce       string `msgpack:"nonce"`
		PubKey      string `msgpack:"pub_key"`
		PublishPort int    `msgpack:"publish_port"`
		AES         []byte `msgpack:"aes"`
		Session     []byte `msgpack:"session"`
		Sig         []byte `msgpack:"sig"`
	}
	if err := msgpack.Unmarshal(outer.Load, &in); err != nil {
		return 0, creds{}, err
	}
	if in.Nonce != nonce {
		return 0, creds{}, errors.New("another nonce")
	}
	if in.PubKey == "" {
		if in.Ret == true {
			return pending, creds{}, nil
		}
		return rejected, creds{}, nil
	}
	pub, err := m.key(in.PubKey)
	if err != nil {
		return 0, creds{}, err
	}
	if !verify(pub, outer.Load, outer.Sig) {
		return 0, creds{}, errors.New("its signature is wrong")
	}
	c := creds{pubPort: in.PublishPort}
	if c.aes, err = m.aesKey(in.AES, in.Sig, k); err != nil {
		return 0, creds{}, fmt.Errorf("AES key: %w", err)
	}
	session, err := k.decrypt(in.Session)
	if err == nil {
		c.session, err = newCrypticle(session)
	}
	if err != nil {
		return 0, creds{}, fmt.Errorf("session key: %w", err)
	}
	return accepted, c, nil
}

// key checks that the master is the one that it was.
func (m *master) key(text string) (*rsa.PublicKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pem == text {
		return m.pub, nil
	}
	pub, err := parsePublic(text)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if m.pub != nil && !m.pub.Equal(pub) {
		return nil, errors.New("the master has another key than before")
	}
	m.pem, m.pub = text, pub
	return pub, nil
}

// aesKey decrypts the AES key that all minions share: once for each key, which is
// known by the master's signature of it, not once for each minion.
func (m *master) aesKey(encrypted, signature []byte, k key) (*crypticle, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.aes[string(signature)]; c != nil && len(signature) > 0 {
		return c, nil
	}
	text, err := k.decrypt(encrypted)
	if err != nil {
		return nil, err
	}
	// auth_mode 2, the default, puts the minion's token behind the key.
	if i := bytes.Index([]byte(text), []byte("_|-")); i >= 0 {
		text = text[:i]
	}
	c, err := newCrypticle(text)
	if err != nil {
		return nil, err
	}
	for _, known := range m.aes {
		if bytes.Equal(known.mac, c.mac) {
			c = known // minions that compare keys compare these
		}
	}
	m.aes[string(signature)] = c
	return c, nil
}
