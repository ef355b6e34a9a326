package event

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// maxDepth is how deep values may nest. Salt's own stay under 20; Python's
	// msgpack refuses to encode more than 511.
	maxDepth = 64

	// maxElements bounds one value. A body of Salt's max_event_size (1 MiB) has
	// some 50,000; each costs up to 80 bytes once decoded to any.
	maxElements = 1 << 19
)

var (
	// ErrShort is returned while a value may still be well-formed, if more
	// bytes follow.
	ErrShort = errors.New("value cut short")

	// ErrMalformed is returned for what no Salt sends: not msgpack, or over the
	// bounds that are set here.
	ErrMalformed = errors.New("malformed")

	errByte     = fmt.Errorf("%w: no msgpack value begins so", ErrMalformed)
	errLength   = fmt.Errorf("%w: length beyond the end", ErrMalformed)
	errDepth    = fmt.Errorf("%w: nested too deep", ErrMalformed)
	errElements = fmt.Errorf("%w: too many elements", ErrMalformed)
	errTrailing = fmt.Errorf("%w: bytes after the value", ErrMalformed)
)

// Scanner finds the end of a msgpack value that is still arriving. It neither
// recurses nor allocates, and reads nothing twice.
//
// It stands before every decoding, since the msgpack library (v5.4.1) allocates
// gigabytes for a header of five bytes, and overflows the stack on a few
// megabytes of 0x91.
type Scanner struct {
	limit    int
	pos      int
	elements int
	depth    int
	left     [maxDepth]int // elements that each open container still lacks
}

// NewScanner makes a scanner for one value, of at most limit bytes.
func NewScanner(limit int) Scanner { return Scanner{limit: limit} }

// Next looks on in buf, which begins with the value: all that has arrived, what
// earlier calls saw included. It returns the value's size, or ErrShort if the
// value does not end within buf, or an error that wraps ErrMalformed.
func (s *Scanner) Next(buf []byte) (size int, err error) {
	for {
		h, err := parse(buf[s.pos:])
		if err != nil {
			return 0, err
		}
		if s.elements++; s.elements > maxElements {
			return 0, errElements
		}
		if room := s.limit - s.pos - h.width; room < 0 || h.n > uint64(room) {
			return 0, errLength
		}
		n := int(h.n)
		switch {
		case h.class == array || h.class == object:
			s.pos += h.width
		case n > len(buf)-s.pos-h.width:
			return 0, ErrShort
		default:
			s.pos, n = s.pos+h.width+n, 0
		}
		if n > 0 {
			if s.depth == maxDepth {
				return 0, errDepth
			}
			s.left[s.depth] = n
			s.depth++
			continue
		}
		for s.depth > 0 {
			if s.left[s.depth-1]--; s.left[s.depth-1] > 0 {
				break
			}
			s.depth--
		}
		if s.depth == 0 {
			return s.pos, nil
		}
	}
}

// sizeOf returns the size of the value that buf begins with, all of which is there.
func sizeOf(buf []byte) (int, error) {
	h, err := parse(buf)
	if err == nil && h.class != array && h.class != object && h.n <= uint64(len(buf)) && h.width+int(h.n) <= len(buf) {
		return h.width + int(h.n), nil // most are scalars and strings
	}
	s := NewScanner(len(buf))
	size, err := s.Next(buf)
	if err == ErrShort {
		err = errLength
	}
	return size, err
}

// check reports whether raw is one value, with nothing after it.
func check(raw []byte) error {
	size, err := sizeOf(raw)
	if err == nil && size != len(raw) {
		err = errTrailing
	}
	return err
}

type class uint8

const (
	scalar class = iota // nil, bool, number: all of it is header
	text                // str or bin: Salt packs either way
	extension
	array
	object // a map; n counts keys and values
)

// head is the header of a value.
type head struct {
	class class
	width int    // bytes of the header
	n     uint64 // bytes that follow it; of array and object: elements
}

// parse reads the header that b begins with.
func parse(b []byte) (head, error) {
	if len(b) == 0 {
		return head{}, ErrShort
	}
	h := head{width: 1}
	lengthBytes := 0
	switch c := b[0]; {
	case c <= 0x7f, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3:
	case c <= 0x8f:
		h.class, h.n = object, 2*uint64(c&0x0f)
	case c <= 0x9f:
		h.class, h.n = array, uint64(c&0x0f)
	case c <= 0xbf:
		h.class, h.n = text, uint64(c&0x1f)
	case c == 0xc1:
		return head{}, errByte
	case c <= 0xc6: // bin 8, 16, 32
		h.class, lengthBytes = text, 1<<(c-0xc4)
	case c <= 0xc9: // ext 8, 16, 32
		h.class, lengthBytes, h.width = extension, 1<<(c-0xc7), 2
	case c <= 0xcb: // float 32, 64
		h.width += 4 << (c - 0xca)
	case c <= 0xcf: // uint 8, 16, 32, 64
		h.width += 1 << (c - 0xcc)
	case c <= 0xd3: // int 8, 16, 32, 64
		h.width += 1 << (c - 0xd0)
	case c <= 0xd8: // fixext 1, 2, 4, 8, 16
		h.class, h.width, h.n = extension, 2, 1<<(c-0xd4)
	case c <= 0xdb: // str 8, 16, 32
		h.class, lengthBytes = text, 1<<(c-0xd9)
	case c <= 0xdd: // array 16, 32
		h.class, lengthBytes = array, 2<<(c-0xdc)
	default: // map 16, 32
		h.class, lengthBytes = object, 2<<(c-0xde)
	}
	h.width += lengthBytes
	if len(b) < h.width {
		return head{}, ErrShort
	}
	if lengthBytes > 0 {
		h.n = number(b[1 : 1+lengthBytes])
		if h.class == object {
			h.n *= 2
		}
	}
	return h, nil
}

// number reads a big-endian unsigned integer of 1, 2, 4 or 8 bytes.
func number(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	default:
		return binary.BigEndian.Uint64(b)
	}
}
