package zmtp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
)

const (
	// greetingSize is the fixed part that comes before any frame (ZMTP 3).
	greetingSize = 64

	// maxFrames bounds the frames of one message, as each costs memory beyond
	// its bytes. Salt sends one, or two with the delimiter of a reply.
	maxFrames = 8

	flagMore = 1 // another frame of the same message follows
	flagLong = 2 // the length has eight bytes, not one
)

// guard lets zmq4 read only what keeps to a limit: zmq4 allocates whatever
// length a frame announces (conn.go, Conn.read), and an absurd one ends the
// process. It follows the frames as they pass by, and fails before the last
// byte of a header that announces too much.
//
// It also gathers writes until the next read: zmq4 writes each frame in two.
type guard struct {
	net.Conn
	r     *bufio.Reader
	w     *bufio.Writer
	limit int // bytes of one message

	skip    int     // bytes to let pass before the next header
	header  [9]byte // of a frame, as far as read
	have    int     // bytes of header that are read
	message int     // bytes of this message so far
	frames  int     // frames of this message so far
}

func newGuard(conn net.Conn, limit int) *guard {
	return &guard{
		Conn:  conn,
		r:     bufio.NewReader(conn),
		w:     bufio.NewWriter(conn),
		limit: limit,
		skip:  greetingSize,
	}
}

func (g *guard) Write(p []byte) (int, error) { return g.w.Write(p) }

func (g *guard) Read(p []byte) (int, error) {
	if err := g.w.Flush(); err != nil {
		return 0, err
	}
	n, err := g.r.Read(p)
	if err := g.follow(p[:n]); err != nil {
		return 0, err
	}
	return n, err
}

// follow keeps track of the frames in p.
func (g *guard) follow(p []byte) error {
	for len(p) > 0 {
		if g.skip > 0 {
			n := min(g.skip, len(p))
			g.skip -= n
			p = p[n:]
			continue
		}
		g.header[g.have] = p[0]
		g.have++
		p = p[1:]
		if err := g.frame(); err != nil {
			return err
		}
	}
	return nil
}

// frame looks at the header, if it is whole.
func (g *guard) frame() error {
	var size uint64
	switch {
	case g.have < 2, g.header[0]&flagLong != 0 && g.have < 9:
		return nil
	case g.header[0]&flagLong != 0:
		size = binary.BigEndian.Uint64(g.header[1:])
	default:
		size = uint64(g.header[1])
	}
	if size > uint64(g.limit-g.message) {
		return fmt.Errorf("%w: frame of %d bytes, limit %d", ErrTooLarge, size, g.limit)
	}
	if g.frames == maxFrames {
		return fmt.Errorf("%w: more than %d frames", ErrTooLarge, maxFrames)
	}
	g.have, g.skip = 0, int(size)
	g.frames++
	g.message += int(size)
	if g.header[0]&flagMore == 0 {
		g.frames, g.message = 0, 0
	}
	return nil
}
