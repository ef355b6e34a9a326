package event

import (
	"fmt"
	"math"
)

var (
	errBody   = fmt.Errorf("%w: frame without body", ErrMalformed)
	errTag    = fmt.Errorf("%w: body without tag", ErrMalformed)
	errNotMap = fmt.Errorf("%w: not a map", ErrMalformed)
)

// fields walks over the pairs of a map, or over the values of an array, and
// scans each on the way. What it has shown is to be trusted only once it ends
// with err nil: then the whole is well-formed, and nothing comes after it.
type fields struct {
	key   []byte // nil in an array
	value []byte
	err   error

	rest  []byte
	left  int // values, and keys
	array bool
}

// fieldsOf begins a walk over a map.
func fieldsOf(raw []byte) fields { return walk(raw, object) }

// elementsOf begins a walk over an array.
func elementsOf(raw []byte) fields { return walk(raw, array) }

func walk(raw []byte, want class) fields {
	h, err := parse(raw)
	switch {
	case err == ErrShort:
		return fields{err: errLength}
	case err != nil:
		return fields{err: err}
	case h.class != want:
		return fields{err: errNotMap}
	case h.n > uint64(len(raw)-h.width):
		return fields{err: errLength}
	}
	return fields{rest: raw[h.width:], left: int(h.n), array: want == array}
}

// next goes to the next pair, if there is one.
func (f *fields) next() bool {
	if f.err == nil && f.left == 0 && len(f.rest) > 0 {
		f.err = errTrailing
	}
	if f.err != nil || f.left == 0 {
		return false
	}
	if !f.array {
		f.key = f.take()
	}
	f.value = f.take()
	return f.err == nil
}

func (f *fields) take() []byte {
	if f.err != nil {
		return nil
	}
	size, err := sizeOf(f.rest)
	if err != nil {
		f.err = err
		return nil
	}
	value := f.rest[:size:size]
	f.rest = f.rest[size:]
	f.left--
	return value
}

// textOf returns the bytes of a str or bin, and nil for anything else. raw has
// been scanned.
func textOf(raw []byte) []byte {
	h, err := parse(raw)
	if err != nil || h.class != text {
		return nil
	}
	return raw[h.width:]
}

// isTrue reports whether raw is the value true.
func isTrue(raw []byte) bool { return len(raw) == 1 && raw[0] == 0xc3 }

// intOf reads an integer of any width, or a bool, as Python's int() does.
func intOf(raw []byte) (n int, ok bool) {
	switch v := scalarOf(raw).(type) {
	case int64:
		return int(v), true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case uint64:
		return math.MaxInt, true
	}
	return 0, false
}

// scalarOf reads nil, a bool, an int64 (uint64 where that is too small) or a
// float64. raw has been scanned.
func scalarOf(raw []byte) any {
	c, rest := raw[0], raw[1:]
	switch {
	case c <= 0x7f, c >= 0xe0:
		return int64(int8(c))
	case c == 0xc2, c == 0xc3:
		return c == 0xc3
	case c == 0xca:
		return float64(math.Float32frombits(uint32(number(rest))))
	case c == 0xcb:
		return math.Float64frombits(number(rest))
	case c >= 0xcc && c <= 0xcf:
		if n := number(rest); n > math.MaxInt64 {
			return n
		} else {
			return int64(n)
		}
	case c >= 0xd0 && c <= 0xd3:
		unused := 64 - 8*len(rest) // to the left of the sign
		return int64(number(rest)<<unused) >> unused
	}
	return nil
}

// Field returns the value of one key of a map, as it stands there: for [Any], and
// where the rest is not to be decoded. nil: there is no such key.
func Field(raw []byte, name string) ([]byte, error) {
	var found []byte
	f := fieldsOf(raw)
	for f.next() {
		if string(textOf(f.key)) == name {
			found = f.value
		}
	}
	if f.err != nil {
		return nil, fmt.Errorf("find %s: %w", name, f.err)
	}
	return found, nil
}

// Elements calls see with each value of an array, as it stands there. What see was
// shown counts only if there is no error.
func Elements(raw []byte, see func(value []byte)) error {
	list := elementsOf(raw)
	for list.next() {
		see(list.value)
	}
	if list.err != nil {
		return fmt.Errorf("read list: %w", list.err)
	}
	return nil
}
