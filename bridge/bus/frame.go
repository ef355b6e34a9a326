package bus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"phoenix/bridge/event"
)

// Framing is how a master separates its events.
type Framing string

const (
	Unknown Framing = ""       // nothing was said yet
	Length  Framing = "length" // four bytes of length before each: Salt 3006.28 and 3006.30, not 3006.9
	Bare    Framing = "bare"   // msgpack, end to end: older 3006, 3007, 3008
	ZMTP    Framing = "zmtp"   // a ZeroMQ PUB socket: before Salt 2015.8
)

const (
	lengthSize = 4

	firstBuffer = 64 << 10 // as much as a Unix socket gives at once, by default

	// keptBuffer stays allocated: Salt cuts events to 1 MiB (max_event_size),
	// so what needs more is rare.
	keptBuffer = 1<<20 + firstBuffer
)

var errFraming = errors.New("not a Salt event bus")

// errTooLarge is for an event that announces more than Config.MaxEvent.
var errTooLarge = errors.New("event over the limit")

// detect recognizes the framing by the first byte that a peer sends. A length begins
// with a byte under 0x80 (0x00, up to 16 MiB), a frame of msgpack is a map, and
// a ZeroMQ peer greets with 0xFF.
func detect(first byte) (Framing, error) {
	switch {
	case first < 0x80:
		return Length, nil
	case first <= 0x8f, first == 0xde, first == 0xdf:
		return Bare, nil
	case first == 0xff:
		return ZMTP, nil
	}
	return Unknown, fmt.Errorf("%w: it begins with byte %#x", errFraming, first)
}

// stream cuts what a master sends into frames. Its buffer grows with what has
// arrived, not with what was announced.
type stream struct {
	r          io.Reader
	limit      int // bytes of one frame
	framing    Framing
	buf        []byte
	start, end int // buf[start:end] is not yet returned
}

func newStream(r io.Reader, limit int) *stream {
	return &stream{r: r, limit: limit, buf: make([]byte, firstBuffer)}
}

// begin waits for the first byte, which determines the framing.
func (s *stream) begin() (Framing, error) {
	if err := s.fill(); err != nil {
		return Unknown, err
	}
	var err error
	s.framing, err = detect(s.buf[s.start])
	return s.framing, err
}

// next returns the next frame, which is valid until the next call. The error is
// io.EOF only where the stream ended between two frames.
func (s *stream) next() ([]byte, error) {
	if s.framing == Length {
		return s.nextLength()
	}
	scanner := event.NewScanner(s.limit)
	for {
		size, err := scanner.Next(s.buf[s.start:s.end])
		if err == nil {
			return s.take(size), nil
		}
		if err != event.ErrShort {
			return nil, err
		}
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
}

func (s *stream) nextLength() ([]byte, error) {
	if err := s.need(lengthSize); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(s.buf[s.start:])
	if uint64(size) > uint64(s.limit) {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", errTooLarge, size, s.limit)
	}
	if err := s.need(lengthSize + int(size)); err != nil {
		return nil, err
	}
	return s.take(lengthSize + int(size))[lengthSize:], nil
}

// need waits until n bytes are there.
func (s *stream) need(n int) error {
	for s.end-s.start < n {
		if err := s.fill(); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) take(n int) []byte {
	frame := s.buf[s.start : s.start+n]
	s.start += n
	return frame
}

// fill reads what there is, and makes room for it first.
func (s *stream) fill() error {
	if s.start == s.end {
		s.start, s.end = 0, 0
	}
	switch {
	case len(s.buf) > keptBuffer && s.end-s.start <= firstBuffer/2:
		s.move(make([]byte, firstBuffer))
	case s.end < len(s.buf):
	case s.start > 0:
		s.move(s.buf)
	default: // full of one frame, which is not larger than the limit
		s.move(make([]byte, min(2*len(s.buf), lengthSize+s.limit)))
	}
	n, err := s.r.Read(s.buf[s.end:])
	s.end += n
	if n > 0 {
		return nil // an error will come again
	}
	if err == io.EOF && s.start < s.end {
		return io.ErrUnexpectedEOF
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// move takes what is held to the begin of a buffer.
func (s *stream) move(to []byte) {
	n := copy(to, s.buf[s.start:s.end])
	s.buf, s.start, s.end = to, 0, n
}
