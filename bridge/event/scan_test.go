package event

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// pack encodes as Salt would with use_bin_type.
func pack(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := msgpack.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func repeat(n int, b ...byte) []byte { return bytes.Repeat(b, n) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// hostile is msgpack that announces what it does not hold, or too much.
var hostile = map[string][]byte{
	"str32 of 4 GiB":      {0xdb, 255, 255, 255, 255},
	"bin32 of 4 GiB":      {0xc6, 255, 255, 255, 255},
	"ext32 of 4 GiB":      {0xc9, 255, 255, 255, 255, 78},
	"array32 of 4 G":      {0xdd, 255, 255, 255, 255},
	"map32 of 4 G":        {0xdf, 255, 255, 255, 255},
	"array32 of 50 M":     {0xdd, 0x02, 0xfa, 0xf0, 0x80},
	"array nested 65":     join(repeat(65, 0x91), []byte{0}),
	"array nested 8 M":    repeat(8<<20, 0x91),
	"map nested 65":       join(repeat(65, 0x81, 0), []byte{0}),
	"map of arrays":       repeat(1<<20, 0x81, 0x91),
	"reserved byte":       {0xc1},
	"reserved in array":   {0x92, 0, 0xc1},
	"many small elements": join([]byte{0xdd, 0, 0x10, 0, 0}, repeat(1<<20, 0)),
	"many small maps":     join([]byte{0xdd, 0, 0x10, 0, 0}, repeat(1<<20, 0x80)),
	"array lacks one":     {0x93, 0, 0},
	"map lacks a value":   {0x82, 0, 0, 0},
	"string lacks a byte": {0xa3, 'a', 'b'},
	"fixext lacks a byte": {0xd8, 78, 0},
	"float lacks a byte":  {0xcb, 0, 0, 0, 0, 0, 0, 0},
	"header lacks a byte": {0xda, 0},
	"trailing byte":       {0, 0},
	"empty":               {},
}

func TestHostileIsMalformed(t *testing.T) {
	for name, raw := range hostile {
		t.Run(name, func(t *testing.T) {
			if err := check(raw); !errors.Is(err, ErrMalformed) && len(raw) > 0 {
				t.Errorf("got %v", err)
			}
			if value, err := Any(raw); err == nil {
				t.Errorf("decoded to %T", value)
			}
		})
	}
}

// However short or long, whatever is refused costs no memory worth a word.
func TestHostileCostsNoMemory(t *testing.T) {
	for name, raw := range hostile {
		frame := pack(t, map[string]any{"head": msgpack.RawMessage{0x80},
			"body": join([]byte("salt/job/1/ret/a\n\n"), raw)})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		Any(raw)
		Split(raw)
		if e, err := Split(frame); err == nil {
			e.Return()
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<10 {
			t.Errorf("%s (%d bytes): %d bytes allocated", name, len(raw), grown)
		}
	}
}

// What is accepted costs at most a multiple of its size.
func TestDecodingCostsAMultiple(t *testing.T) {
	const perByte, base = 100, 16 << 10
	n := byte(maxElements >> 17) // so that the element cap is just kept
	inputs := map[string][]byte{
		"small maps":    join([]byte{0xdd, 0, n, 0, 0}, repeat(int(n)<<16, 0x80)),
		"small arrays":  join([]byte{0xdd, 0, n, 0, 0}, repeat(int(n)<<16, 0x90)),
		"small strings": join([]byte{0xdd, 0, n, 0, 0}, repeat(int(n)<<16, 0xa0)),
	}
	for name, frame := range allGolden(t) {
		inputs[name] = split(t, frame).Data
	}
	for name, raw := range inputs {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Any(raw)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; err != nil || grown > uint64(perByte*len(raw)+base) {
			t.Errorf("%s: %d bytes for %d, %v", name, grown, len(raw), err)
		}
	}
}

// A value that arrives byte by byte is short until its last byte, and then as
// large as it is.
func TestArriving(t *testing.T) {
	for name, frame := range allGolden(t) {
		s := NewScanner(len(frame))
		for i := range frame {
			if _, err := s.Next(frame[:i]); err != ErrShort {
				t.Fatalf("%s: %d of %d bytes: %v", name, i, len(frame), err)
			}
		}
		if size, err := s.Next(join(frame, []byte{0xc1})); err != nil || size != len(frame) {
			t.Errorf("%s: %d of %d bytes, %v", name, size, len(frame), err)
		}
	}
}

// A length that goes over the limit is refused before its bytes arrive.
func TestLimit(t *testing.T) {
	value := pack(t, map[string]any{"body": repeat(1000, 'x')})
	exact, less := NewScanner(len(value)), NewScanner(len(value)-1)
	if _, err := exact.Next(value[:20]); err != ErrShort {
		t.Errorf("as large as the limit: %v", err)
	}
	if _, err := less.Next(value[:20]); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte over the limit: %v", err)
	}
}

// Elements that have no length of their own count against the limit too.
func TestLimitOfSmallElements(t *testing.T) {
	value := join([]byte{0x9a}, repeat(10, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0))
	s := NewScanner(50)
	if _, err := s.Next(value); !errors.Is(err, ErrMalformed) {
		t.Errorf("%d bytes within 50: %v", len(value), err)
	}
}

func TestDepth(t *testing.T) {
	if err := check(join(repeat(maxDepth, 0x91), []byte{0})); err != nil {
		t.Errorf("as deep as may be: %v", err)
	}
	if err := check(repeat(maxDepth+1, 0x91)); !errors.Is(err, ErrMalformed) {
		t.Errorf("one deeper: %v", err)
	}
	if err := check(join(repeat(maxDepth, 0x91), []byte{0x90})); err != nil {
		t.Errorf("empty in the deepest: %v", err)
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	data := split(t, golden(t, "3006.28", "ret-highstate")).Data
	if n := testing.AllocsPerRun(100, func() {
		s := NewScanner(len(data))
		if _, err := s.Next(data); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
