package event

import "fmt"

// Fields returns the values of a msgpack map by their keys, undecoded, so that they
// can be passed on exactly as they came: extensions of Salt and the difference
// between text and bytes included. All of raw is scanned first; the values are
// parts of it. Keys that are no text are left out, and of a key that comes twice
// the last counts, as in Python.
func Fields(raw []byte) (map[string][]byte, error) {
	if err := check(raw); err != nil {
		return nil, fmt.Errorf("read map: %w", err)
	}
	values := map[string][]byte{}
	f := fieldsOf(raw)
	for f.next() {
		if key := textOf(f.key); key != nil {
			values[string(key)] = f.value
		}
	}
	if f.err != nil {
		return nil, fmt.Errorf("read map: %w", f.err)
	}
	return values, nil
}

// Bytes returns the bytes of a msgpack str or bin, and nil of anything else.
func Bytes(raw []byte) []byte { return textOf(raw) }
