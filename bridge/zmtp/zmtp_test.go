package zmtp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-zeromq/zmq4"
)

// patience bounds what must come at once, on a machine that is busy.
const patience = 20 * time.Second

func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// echo is a REP socket that answers each request with itself, n times over.
func echo(t *testing.T, endpoint string, n int) string {
	t.Helper()
	rep := zmq4.NewRep(t.Context())
	if err := rep.Listen(endpoint); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rep.Close() })
	go func() {
		for {
			msg, err := rep.Recv()
			if err != nil {
				return
			}
			if rep.Send(zmq4.NewMsg(bytes.Repeat(msg.Frames[0], n))) != nil {
				return
			}
		}
	}()
	if addr, ok := rep.Addr().(*net.TCPAddr); ok {
		return "tcp://" + addr.String()
	}
	return endpoint
}

func TestRequest(t *testing.T) {
	for name, endpoint := range map[string]string{
		"tcp": "tcp://127.0.0.1:0",
		"ipc": "ipc://" + filepath.Join(t.TempDir(), "rep.ipc"),
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := echo(t, endpoint, 1)
			for _, size := range []int{1, 255, 256, 1 << 20} {
				sent := bytes.Repeat([]byte{'x'}, size)
				got, err := Request(patient(t), endpoint, sent, 1<<20)
				if err != nil || !bytes.Equal(got, sent) {
					t.Fatalf("%d bytes: got %d bytes, %v", size, len(got), err)
				}
			}
		})
	}
}

func TestAnswerOverTheLimit(t *testing.T) {
	endpoint := echo(t, "tcp://127.0.0.1:0", 10)
	if _, err := Request(patient(t), endpoint, make([]byte, 10), 100); err != nil {
		t.Errorf("answer as large as the limit: %v", err)
	}
	if _, err := Request(patient(t), endpoint, make([]byte, 10), 99); !errors.Is(err, ErrTooLarge) {
		t.Errorf("answer one byte over the limit: %v", err)
	}
}

func TestEndpoints(t *testing.T) {
	for _, endpoint := range []string{"", "127.0.0.1:4506", "udp://127.0.0.1:1", "tcp://",
		"ipc://" + filepath.Join(t.TempDir(), "none")} {
		if _, err := Request(patient(t), endpoint, nil, 10); err == nil {
			t.Errorf("%q: no error", endpoint)
		}
	}
	_, err := Request(patient(t), "ipc://"+filepath.Join(t.TempDir(), "none"), nil, 10)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent socket: %v", err)
	}
}

func TestSubscribe(t *testing.T) {
	pub := zmq4.NewPub(t.Context())
	path := filepath.Join(t.TempDir(), "pub.ipc")
	if err := pub.Listen("ipc://" + path); err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	first, stop := context.WithCancel(patient(t))
	go func() { // PUB drops what is sent before the subscription came in
		for first.Err() == nil && pub.Send(zmq4.NewMsg([]byte("first"))) == nil {
			runtime.Gosched()
		}
		pub.Send(zmq4.NewMsg(bytes.Repeat([]byte("y"), 1000)))
		pub.Send(zmq4.NewMsg(bytes.Repeat([]byte("z"), 1001)))
	}()
	var last []byte
	err = Subscribe(patient(t), conn, 1000, func(b []byte) error {
		stop()
		last = b
		return nil
	})
	if len(last) != 1000 || !errors.Is(err, ErrTooLarge) {
		t.Errorf("last message %d bytes, %v", len(last), err)
	}
}

func TestSubscribeEndsWithItsReader(t *testing.T) {
	full := errors.New("full")
	conn := hostile(t, append(hello("PUB"), 0, 1, 'x'))
	err := Subscribe(patient(t), conn, 1000, func(b []byte) error { return full })
	if !errors.Is(err, full) {
		t.Error(err)
	}
}

// hello is greeting and READY of a peer with that kind of socket.
func hello(kind string) []byte {
	b := make([]byte, greetingSize)
	b[0], b[9], b[10] = 0xff, 0x7f, 3
	copy(b[12:], "NULL")
	return append(b, ready("\x0bSocket-Type\x00\x00\x00"+string(rune(len(kind)))+kind)...)
}

func ready(properties string) []byte {
	b := []byte{4, byte(6 + len(properties))}
	return append(b, "\x05READY"+properties...)
}

// hostile returns a connection to a peer that says just that, and reads on.
func hostile(t *testing.T, says []byte) net.Conn {
	ours, theirs := net.Pipe()
	go io.Copy(io.Discard, theirs)
	go theirs.Write(says)
	t.Cleanup(func() { theirs.Close() })
	return ours
}

func TestHostilePeers(t *testing.T) {
	greeting := hello("REP")[:greetingSize]
	for name, test := range map[string]struct {
		says     []byte
		tooLarge bool
	}{
		"frame of 2^62 bytes":   {append(hello("REP"), 2, 0x40, 0, 0, 0, 0, 0, 0, 0), true},
		"frame of 2^64-1 bytes": {append(hello("REP"), 2, 255, 255, 255, 255, 255, 255, 255, 255), true},
		"frames without end":    {append(hello("REP"), bytes.Repeat([]byte{1, 0}, 100)...), true},
		"parts over the limit": {append(hello("REP"), append([]byte{1, 90}, append(make([]byte, 90), 0, 90)...)...),
			true},
		"READY too large":          {append(bytes.Clone(greeting), 6, 0, 0, 0, 0, 0, 1, 0, 0), true},
		"READY cut short":          {append(bytes.Clone(greeting), ready("\x0bSock")...), false},
		"READY with a length gone": {append(bytes.Clone(greeting), ready("\x01a\x00")...), false},
		"READY empty":              {append(bytes.Clone(greeting), 4, 0), false},
		"wrong kind of socket":     {hello("PUB"), false},
		"no delimiter":             {append(hello("REP"), 0, 1, 'x'), false},
		"empty command":            {append(hello("REP"), 4, 0), false},
		"bare msgpack":             {bytes.Repeat([]byte{0x82, 0xa4, 'h', 'e', 'a', 'd'}, 20), false},
	} {
		t.Run(name, func(t *testing.T) {
			err := converse(patient(t), hostile(t, test.says), zmq4.Req, 100, func(peer *zmq4.Conn) error {
				frames, err := receive(peer)
				if err == nil && len(frames) != 2 {
					err = errors.New("no reply")
				}
				return err
			})
			if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrTooLarge) != test.tooLarge {
				t.Errorf("got %v, too large: %t", err, test.tooLarge)
			}
		})
	}
}

// A peer that accepts and says nothing holds nobody longer than the time that
// is set for a handshake.
func TestSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := Subscribe(t.Context(), hostile(t, nil), 100, nil)
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != handshakeTimeout {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// Once greeted, a peer may be silent as long as it likes; ctx ends that.
func TestCancel(t *testing.T) {
	for name, says := range map[string][]byte{
		"before the greeting":  nil,
		"in the greeting":      hello("PUB")[:20],
		"before READY":         hello("PUB")[:greetingSize],
		"before a message":     hello("PUB"),
		"in a message's bytes": append(hello("PUB"), 0, 10, 'x'),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const after = handshakeTimeout / 2
				ctx, cancel := context.WithTimeout(t.Context(), after)
				defer cancel()
				began := time.Now()
				err := Subscribe(ctx, hostile(t, says), 100, nil)
				if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != after {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

func TestLongSilenceIsNormal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		err := Subscribe(ctx, hostile(t, hello("PUB")), 100, nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func FuzzPeer(f *testing.F) {
	f.Add(append(hello("PUB"), 0, 1, 'x', 1, 2, 'y', 'z', 0, 0))
	f.Add(append(hello("PUB"), 6, 0, 0, 0, 0, 0, 0, 0, 6, 4, 'P', 'I', 'N', 'G', 0))
	f.Add(hello("XPUB"))
	f.Fuzz(func(t *testing.T, says []byte) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs)
		go func() { theirs.Write(says); theirs.Close() }()
		const limit = 1000
		err := Subscribe(t.Context(), ours, limit, func(b []byte) error {
			if len(b) > limit {
				t.Errorf("message of %d bytes", len(b))
			}
			return nil
		})
		if err == nil {
			t.Error("no error at the end")
		}
	})
}
