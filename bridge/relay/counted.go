package relay

import (
	"net"
	"sync/atomic"
)

// traffic counts the bytes of all connections with other masters, TLS included.
type traffic struct{ sent, received atomic.Uint64 }

// counted is a connection whose bytes are counted.
type counted struct {
	net.Conn
	traffic *traffic
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.traffic.received.Add(uint64(n))
	return n, err
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.traffic.sent.Add(uint64(n))
	return n, err
}
