package salt

import (
	"errors"
	"net"
	"testing"
	"time"
)

// A master whose port is closed was not asked; one that takes the request and does not
// answer may have done it.
func TestNotSent(t *testing.T) {
	for _, transport := range []string{"zeromq", TCP} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c := Config{CacheDir: t.TempDir(), User: "salt", Transport: transport,
			RetPort: listener.Addr().(*net.TCPAddr).Port}
		m, err := NewMaster(c)
		if err != nil {
			t.Fatal(err)
		}
		put(t, []byte("K1"), c.RootKeyPath())
		ping := func() error {
			_, err := m.call(t.Context(), time.Second, dict{"cmd": "ping"})
			return err
		}
		if err := ping(); !errors.Is(err, ErrUnreachable) || NotSent(err) {
			t.Errorf("%s: nobody answers: %v", transport, err)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		if err := ping(); !NotSent(err) {
			t.Errorf("%s: the port is closed: %v", transport, err)
		}
	}
	if NotSent(nil) || NotSent(ErrUnreachable) {
		t.Error("whether it was sent is not known")
	}
}
