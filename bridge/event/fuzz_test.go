package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// seeds adds the golden frames, what is in them, and truncations of both.
func seeds(f *testing.F, part func(Event, []byte) []byte) {
	for _, frame := range allGolden(f) {
		raw := part(split(f, frame), frame)
		f.Add(raw)
		for i := 0; i < len(raw); i += 1 + i/4 {
			f.Add(raw[:i])
		}
	}
	for _, raw := range hostile {
		if len(raw) < 1<<10 {
			f.Add(raw)
		}
	}
}

// The scanner finds the same end whether a value comes whole or in pieces, and
// the one that the library finds, which has been written independently.
func FuzzScan(f *testing.F) {
	seeds(f, func(e Event, _ []byte) []byte { return e.Data })
	f.Fuzz(func(t *testing.T, raw []byte) {
		whole := NewScanner(len(raw))
		size, err := whole.Next(raw)
		pieces := NewScanner(len(raw))
		for end := 0; end <= len(raw); end++ {
			n, pieceErr := pieces.Next(raw[:end])
			if pieceErr == ErrShort {
				continue
			}
			if n != size || pieceErr != err || err == nil && n != end {
				t.Fatalf("%d, %v; in pieces %d, %v after %d bytes", size, err, n, pieceErr, end)
			}
			break
		}
		if err != nil {
			if err != ErrShort && !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		r := bytes.NewReader(raw)
		if err := msgpack.NewDecoder(r).Skip(); err != nil || len(raw)-r.Len() != size {
			t.Fatalf("%d; the library %d, %v", size, len(raw)-r.Len(), err)
		}
	})
}

// Splitting and decoding never panic, and show only what is in the frame.
func FuzzSplit(f *testing.F) {
	seeds(f, func(_ Event, frame []byte) []byte { return frame })
	f.Fuzz(func(t *testing.T, frame []byte) {
		e, err := Split(frame)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		for _, part := range [][]byte{e.Tag, e.ID, e.JID, e.Data} {
			if !bytes.Contains(frame, part) {
				t.Fatalf("%q is not in the frame", part)
			}
		}
		got, err := decodeAs(e)
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrMismatch) {
			t.Fatal(err)
		}
		if r, ok := got.(Return); ok && err == nil && (r.ID != string(e.ID) || r.JID != string(e.JID)) {
			t.Fatalf("%+v from %s", r, e.Tag)
		}
	})
}

// What is one value decodes; and what it decodes to is fit for JSON.
func FuzzDecode(f *testing.F) {
	seeds(f, func(e Event, _ []byte) []byte { return e.Data })
	f.Fuzz(func(t *testing.T, raw []byte) {
		for kind := KindAuth; kind <= KindReturn; kind++ {
			decodeAs(Event{Kind: kind, ID: []byte("web-1"), JID: []byte("1"), Data: raw})
		}
		Busy(raw)
		value, err := Any(raw)
		if (err == nil) != (check(raw) == nil) {
			t.Fatalf("decoded with %v, checked with %v", err, check(raw))
		}
		if _, err := json.Marshal(value); err != nil {
			t.Fatal(err)
		}
	})
}
