package relay

import (
	"crypto/rsa"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// TestG12_IdleConnectionsKeepNoMasterOut: strangers that connect and say nothing, from
// many addresses, keep no other master out.
func TestG12_IdleConnectionsKeepNoMasterOut(t *testing.T) {
	w := newWorld(t, "m1")
	m1 := w.sides[0]
	w.mu.Lock()
	w.rows = append(w.rows, row("m2", "127.0.0.1:1"))
	w.mu.Unlock()
	w.waitFor("m1 knows m2", func() bool { return len(m1.Status().Peers) == 1 })
	for i := range 40 {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/2))}}
		conn, err := dialer.Dial("tcp", m1.Status().Listen)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	w.waitFor("the last are refused", func() bool { return m1.Status().Refused >= 40-maxHandshakes })
	if _, err := fakePeer(t, m1.Status().Listen, "m2"); err != nil {
		t.Error("m2 does not get in: ", err)
	}
}

func TestDoor(t *testing.T) {
	d := &handshakes{}
	d.expect([]fleet.Master{row("m1", "192.0.2.1:4507"),
		{InstanceID: "m2", Status: fleet.Launch, Relay: "relay.example:4507", IPAddr: "192.0.2.2"},
		{InstanceID: "m3", Status: fleet.Terminate, Relay: "192.0.2.3:4507"}})
	addr := func(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprint("192.0.2.", n)) }
	var leave []func()
	enter := func(n int, want bool) {
		t.Helper()
		l, ok := d.begin(addr(n))
		if ok != want {
			t.Errorf("%v: %v", addr(n), ok)
		}
		if ok {
			leave = append(leave, l)
		}
	}
	for n := 3; n < 3+maxHandshakes/maxHandshakesOfOne; n++ {
		for range maxHandshakesOfOne {
			enter(n, true)
		}
		enter(n, false)
	}
	enter(200, false)
	for n := 1; n < 3; n++ {
		enter(n, true)
		enter(n, true)
		enter(n, false)
	}
	d.expect(nil) // the rows change meanwhile
	for _, l := range leave {
		l()
	}
	if d.foreign != 0 || len(d.shaking) != 0 {
		t.Errorf("%d and %v are left", d.foreign, d.shaking)
	}
}

// TestG10_ReplacedKeyEndsConnections: once master.pem is another one, who holds the
// former one is no master, though it was connected; and masters that have the new one
// find each other again.
func TestG10_ReplacedKeyEndsConnections(t *testing.T) {
	var pair atomic.Pointer[rsa.PrivateKey]
	pair.Store(keyOfTests())
	w := &world{t: t}
	for _, name := range []string{"m1", "m2"} {
		w.add(name, func() (*rsa.PrivateKey, error) { return pair.Load(), nil })
	}
	m1 := w.sides[0]
	connected := func() bool { p := m1.Status().Peers; return len(p) == 1 && p[0].Connected }
	w.waitFor("m1 reaches m2", connected)
	former, err := fakePeer(t, m1.Status().Listen, "m9")
	if err != nil {
		t.Fatal(err)
	}
	link := m1.linkTo("m2")
	other := keyOfStrangers()
	begun := time.Now()
	pair.Store(other)
	if _, err := former.read(); err == nil || time.Since(begun) > silentFor/2 {
		t.Errorf("the connection with the former key stays: %v after %v", err, time.Since(begun))
	}
	w.waitFor("m1 reaches m2 again", func() bool {
		now := m1.linkTo("m2")
		return now != nil && now != link
	})
	if l, err := fakePeer(t, m1.Status().Listen, "m9"); err == nil {
		_, err = l.read()
		if err == nil {
			t.Error("the former key is taken again")
		}
	}
}
