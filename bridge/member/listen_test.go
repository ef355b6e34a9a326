package member

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
	"phoenix/bridge/fleet"
)

// master stands for what Salt's own masters do only when they are broken, or too old:
// it answers _auth, and publishes, as it is told.
type master struct {
	t       *testing.T
	key     *rsa.PrivateKey
	pub     string
	old     bool // gives no session key
	publish zmq4.Socket

	mu    sync.Mutex
	aes   []byte // as text
	now   *cipherKey
	asked int
	fails error
}

func newMaster(t *testing.T) (*master, *Member) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	m := &master{t: t, key: key, pub: strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY",
		Bytes: der})))}
	m.rotate()
	m.publish = zmq4.NewPub(t.Context())
	if err := m.publish.Listen("tcp://127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.publish.Close() })
	us, err := New(Config{RetEndpoint: "tcp://127.0.0.1:1", Publish: m.publish.Addr().String(), KeyFolder: t.TempDir(),
		Sessions:  t.TempDir(),
		MasterKey: func() (string, error) { return fleet.KeyDigest([]byte(m.pub)) }})
	if err != nil {
		t.Fatal(err)
	}
	us.request = func(_ context.Context, _ string, payload []byte, _ int) ([]byte, error) { return m.auth(us, payload) }
	return m, us
}

// rotate gives the master a new key for what it publishes.
func (m *master) rotate() {
	m.mu.Lock()
	defer m.mu.Unlock()
	raw := make([]byte, aesSize+macSize)
	_, _ = rand.Read(raw)
	m.aes = []byte(base64.StdEncoding.EncodeToString(raw))
	m.now, _ = newCipherKey(m.aes)
}

func (m *master) auth(us *Member, payload []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.fails != nil {
		return nil, m.fails
	}
	outer, err := event.Fields(payload)
	if err != nil {
		return nil, err
	}
	load, err := event.Fields(outer["load"])
	if err != nil {
		return nil, err
	}
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &us.identity.key.PublicKey, m.aes, nil)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"nonce": string(event.Bytes(load["nonce"])), "pub_key": m.pub, "aes": sealed}
	if !m.old {
		answer["session"] = sealed
	}
	return m.signed(pack(answer), "PKCS1v15-SHA1"), nil
}

func pack(v any) []byte {
	b, err := msgpack.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (m *master) signed(load []byte, algo string) []byte {
	outer := map[string]any{"enc": "aes", "load": load}
	sum, hash := sha1.Sum(load), crypto.SHA1
	digest := sum[:]
	if algo == "PKCS1v15-SHA224" {
		other := sha256.Sum224(load)
		digest, hash = other[:], crypto.SHA224
	}
	sig, err := rsa.SignPKCS1v15(nil, m.key, hash, digest)
	if err != nil {
		panic(err)
	}
	outer["sig"], outer["sig_algo"] = sig, algo
	return pack(outer)
}

func (m *master) job(jid string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.signed(m.now.encrypt(pack(map[string]any{"jid": jid})), "PKCS1v15-SHA1")
}

// TestPublishesAreVerified: whoever holds the key that all minions have publishes
// nothing here.
func TestPublishesAreVerified(t *testing.T) {
	m, us := newMaster(t)
	if _, err := us.renew(t.Context(), keys{}); err != nil {
		t.Fatal(err)
	}
	sealed := m.now.encrypt(pack(map[string]any{"jid": "1"}))
	stranger, _ := newMaster(t)
	changed := func(name string, value any) []byte {
		outer := map[string]any{}
		if err := msgpack.Unmarshal(m.signed(sealed, "PKCS1v15-SHA1"), &outer); err != nil {
			t.Fatal(err)
		}
		if outer[name] = value; value == nil {
			delete(outer, name)
		}
		return pack(outer)
	}
	for name, c := range map[string]struct {
		message []byte
		want    error
	}{
		"SHA1":               {m.signed(sealed, "PKCS1v15-SHA1"), nil},
		"SHA224":             {m.signed(sealed, "PKCS1v15-SHA224"), nil},
		"no signature":       {pack(map[string]any{"enc": "aes", "load": sealed}), ErrUnsigned},
		"an empty one":       {changed("sig", []byte{}), ErrUnsigned},
		"no algorithm":       {changed("sig_algo", nil), ErrSignature},
		"another one":        {changed("sig_algo", "PKCS1v15-SHA224"), ErrSignature},
		"one that is none":   {changed("sig_algo", "none"), ErrSignature},
		"another load":       {changed("load", m.now.encrypt(pack(map[string]any{"jid": "2"}))), ErrSignature},
		"another's":          {stranger.signed(sealed, "PKCS1v15-SHA1"), ErrSignature},
		"a short one":        {changed("sig", []byte{1}), ErrSignature},
		"a text for the sig": {changed("sig", strings.Repeat("x", 256)), ErrSignature},
	} {
		if _, err := us.open(t.Context(), c.message); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m.asked != 1 {
		t.Errorf("the master was asked for keys %d times", m.asked)
	}
}

type ear struct {
	connected chan struct{}
	heard     chan string
	missed    chan error
}

func newEar() *ear {
	return &ear{make(chan struct{}, 10), make(chan string, 100), make(chan error, 100)}
}

func (e *ear) Connected()                              { e.connected <- struct{}{} }
func (e *ear) Job(load map[string][]byte, _ time.Time) { e.heard <- string(event.Bytes(load["jid"])) }
func (e *ear) Skipped(err error)                       { e.missed <- err }

// next returns what came: a job id, or an error.
func (e *ear) next(t *testing.T) string {
	t.Helper()
	select {
	case jid := <-e.heard:
		return jid
	case err := <-e.missed:
		return "missed: " + err.Error()
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
	return ""
}

// TestG12_OneJobEndsNoSubscription: a publish that cannot be read, a master that gives
// no keys, and one that was encrypted with the key before, cost no other job.
func TestG12_OneJobEndsNoSubscription(t *testing.T) {
	m, us := newMaster(t)
	ctx, cancel := context.WithCancel(t.Context())
	e, done := newEar(), make(chan error, 1)
	go func() { done <- us.Listen(ctx, e) }()
	select {
	case <-e.connected:
	case err := <-done:
		t.Fatal(err)
	}
	send := func(message []byte) {
		t.Helper()
		if err := m.publish.Send(zmq4.NewMsg(message)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what, want string) {
		t.Helper()
		if got := e.next(t); !strings.Contains(got, want) {
			t.Errorf("%s: %q, not %q", what, got, want)
		}
	}
	for subscribed := false; !subscribed; { // the socket tells nobody that it has a subscriber
		send(m.job("0"))
		select {
		case <-e.heard:
			subscribed = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	for len(e.heard) > 0 {
		<-e.heard
	}
	send([]byte("nonsense"))
	want("nonsense", "missed")
	send(m.job("1"))
	want("the next", "1")
	late := m.job("2")
	m.rotate()
	send(m.job("3"))
	want("one with a new key", "3")
	send(late)
	want("one with the key before", "2")
	m.rotate()
	m.mu.Lock()
	m.fails = errors.New("the master is busy")
	m.mu.Unlock()
	send(m.job("4"))
	want("without a key", "missed: the master is busy")
	m.mu.Lock()
	m.fails = nil
	m.mu.Unlock()
	send(m.job("5"))
	want("the next", "5")
	select {
	case err := <-done:
		t.Fatal("the subscription ended: ", err)
	default:
	}
	asked := m.asked
	cancel()
	<-done
	// Whoever listens anew asks whether the keys are the same.
	ctx, cancel = context.WithCancel(t.Context())
	go func() { done <- us.Listen(ctx, e) }()
	<-e.connected
	cancel()
	<-done
	if m.asked != asked+1 {
		t.Errorf("asked %d times at the next connection", m.asked-asked)
	}
}

// TestTooOldSalt is called so.
func TestTooOldSalt(t *testing.T) {
	m, us := newMaster(t)
	m.old = true
	if err := us.Listen(t.Context(), newEar()); !errors.Is(err, ErrTooOld) ||
		!strings.Contains(err.Error(), "this Salt is too old for the relay") {
		t.Error(err)
	}
}

// TestProveMaster: what counts is the key that the process which answers signs with. One
// that still runs with the key before, or sends the new public key and lacks the private
// half, proves nothing.
func TestProveMaster(t *testing.T) {
	m, us := newMaster(t)
	if err := us.ProveMaster(t.Context()); err != nil {
		t.Error(err)
	}
	m.old = true // Salt: its signature counts all the same
	if err := us.ProveMaster(t.Context()); err != nil {
		t.Error(err)
	}
	next, _ := newMaster(t)
	us.config.MasterKey = func() (string, error) { return fleet.KeyDigest([]byte(next.pub)) }
	if err := us.ProveMaster(t.Context()); err == nil {
		t.Error("a process with the key before passes")
	}
	m.pub = next.pub
	if err := us.ProveMaster(t.Context()); !errors.Is(err, rsa.ErrVerification) {
		t.Errorf("without the private half: %v", err)
	}
	m.fails = context.DeadlineExceeded
	if err := us.ProveMaster(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestG7_QueueIsBounded: what is published while keys are asked for.
func TestG7_QueueIsBounded(t *testing.T) {
	q := newQueue()
	for range 100 {
		q.put(make([]byte, 1<<20), time.Now())
	}
	if q.bytes > maxQueue || q.left < 60 {
		t.Errorf("%d bytes, %d left out", q.bytes, q.left)
	}
	if p, left, err := q.take(t.Context()); err != nil || len(p.message) != 1<<20 || left < 60 || q.left != 0 {
		t.Errorf("%d, %v", left, err)
	}
}

// TestG11_StoppedBridge: what a bridge that was stopped reads when it goes on may have
// come when it was stopped, whichever of its goroutines runs first.
func TestG11_StoppedBridge(t *testing.T) {
	for _, beatFirst := range []bool{false, true} {
		begun := time.Now()
		a := newPauseWatch(begun)
		after := func(d time.Duration) time.Time { return begun.Add(d) }
		a.at(after(500 * time.Millisecond))
		if got := a.earliest(after(900 * time.Millisecond)); got != after(900*time.Millisecond) {
			t.Errorf("awake: %v", got.Sub(begun))
		}
		a.at(after(time.Second)) // and then it is stopped, for 7 s
		if beatFirst {
			a.at(after(8 * time.Second))
		}
		for _, d := range []time.Duration{8001, 8002, 8500} {
			if got := a.earliest(after(d * time.Millisecond)); got != after(time.Second) {
				t.Errorf("read after %d ms (beat first: %v): it came after %v", d, beatFirst, got.Sub(begun))
			}
		}
		a.at(after(9 * time.Second))
		if got := a.earliest(after(9100 * time.Millisecond)); got != after(9100*time.Millisecond) {
			t.Errorf("awake again: %v", got.Sub(begun))
		}
	}
}
