package bus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/iotest"

	"phoenix/bridge/event"
)

// golden is where the frames of real masters are.
const golden = "../event/testdata/golden"

func readGolden(tb testing.TB, version, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(golden, version, name+".bin"))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// framed puts a frame as a master of that framing does.
func framed(f Framing, frame []byte) []byte {
	if f != Length {
		return frame
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)
}

// frameOf makes a frame with that tag and no data to speak of.
func frameOf(tag string) []byte {
	body := tag + "\n\n\x80"
	b := []byte("\x82\xa4head\x80\xa4body\xc5")
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// readAll reads frames until the stream ends.
func readAll(r io.Reader, limit int) (frames [][]byte, s *stream, err error) {
	s = newStream(r, limit)
	if _, err = s.begin(); err != nil {
		return nil, s, err
	}
	for {
		frame, err := s.next()
		if err != nil {
			return frames, s, err
		}
		frames = append(frames, bytes.Clone(frame))
	}
}

// The bus of each master, however its bytes arrive. The capture ends in
// mid-frame.
func TestCapturedStreams(t *testing.T) {
	for version, want := range map[string]Framing{"3006.9": Bare, "3006.28": Length, "3007.15": Bare, "3008.3": Bare} {
		raw := readGolden(t, version, "stream")
		for name, r := range map[string]io.Reader{
			"at once":      bytes.NewReader(raw),
			"byte by byte": iotest.OneByteReader(bytes.NewReader(raw)),
			"in halves":    iotest.HalfReader(bytes.NewReader(raw)),
			"with the end": iotest.DataErrReader(bytes.NewReader(raw)),
		} {
			frames, s, err := readAll(r, DefaultMaxEvent)
			if s.framing != want || err != io.ErrUnexpectedEOF || len(frames) < 5 {
				t.Errorf("%s %s: %s, %d frames, %v", version, name, s.framing, len(frames), err)
			}
			for i, frame := range frames {
				e, err := event.Split(frame)
				if err != nil || i == 0 && e.Kind != event.KindAuth {
					t.Errorf("%s %s: frame %d: %s, %v", version, name, i, e.Tag, err)
				}
			}
		}
	}
}

func TestDetect(t *testing.T) {
	for first, want := range map[byte]Framing{0: Length, 1: Length, 0x80: Bare, 0x82: Bare, 0xde: Bare, 0xdf: Bare,
		0xff: ZMTP, 0xc1: Unknown, 0xa4: Unknown} {
		if got, err := detect(first); got != want || (err == nil) != (want != Unknown) {
			t.Errorf("%#x: %q, %v", first, got, err)
		}
	}
}

// Headers that announce more than may be are refused as soon as they are read,
// and cost nothing.
func TestHostileHeaders(t *testing.T) {
	const limit = 1 << 20
	for name, raw := range map[string][]byte{
		"length of 1 GiB":         {0x40, 0, 0, 0},
		"length over the limit":   {0, 0x10, 0, 1},
		"body over the limit":     []byte("\x82\xa4head\x80\xa4body\xc6\x00\x10\x00\x01"),
		"str32 of 4 GiB":          []byte("\x82\xa4head\x80\xa4body\xdb\xff\xff\xff\xff"),
		"array32 of 4 G":          []byte("\x82\xa4head\xdd\xff\xff\xff\xff"),
		"map32 of 4 G":            {0xdf, 0xff, 0xff, 0xff, 0xff},
		"nested for ever":         append([]byte("\x81\xa4head"), bytes.Repeat([]byte{0x91}, limit)...),
		"reserved byte":           []byte("\x82\xa4head\xc1"),
		"HTTP":                    []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"text of another service": []byte("\xa4text"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		// More would follow: it is not awaited.
		frames, _, err := readAll(io.MultiReader(bytes.NewReader(raw), zeros{}), limit)
		runtime.ReadMemStats(&after)
		if len(frames) > 0 || !errors.Is(err, errTooLarge) && !errors.Is(err, errFraming) &&
			!errors.Is(err, event.ErrMalformed) {
			t.Errorf("%s: %d frames, %v", name, len(frames), err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 2*firstBuffer {
			t.Errorf("%s: %d bytes allocated", name, grown)
		}
	}
}

// zeros is a peer that never stops.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A peer that announces as much as it may and then hangs up has cost no more
// than it sent, about; and one that sends it, less than twice the limit.
func TestBufferGrowsAsBytesArrive(t *testing.T) {
	const limit = 8 << 20
	for _, f := range []Framing{Length, Bare} {
		head := []byte("\x82\xa4head\x80\xa4body\xc6")
		size := uint32(limit - len(head) - 4)
		whole := append(binary.BigEndian.AppendUint32(head, size), make([]byte, size)...)
		raw := framed(f, whole)

		_, s, err := readAll(bytes.NewReader(raw[:100_000]), limit)
		if err != io.ErrUnexpectedEOF || len(s.buf) > 4*firstBuffer {
			t.Errorf("%s: buffer of %d after 100,000 bytes, %v", f, len(s.buf), err)
		}
		frames, s, err := readAll(bytes.NewReader(raw), limit)
		if err != io.EOF || len(frames) != 1 || len(s.buf) > limit+lengthSize {
			t.Errorf("%s: buffer of %d, %d frames, %v", f, len(s.buf), len(frames), err)
		}
		small := framed(f, frameOf("a"))
		s = newStream(bytes.NewReader(append(raw, small...)), limit)
		if _, err := s.begin(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := s.next(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.next(); err != io.EOF || len(s.buf) != firstBuffer {
			t.Errorf("%s: buffer of %d once drained, %v", f, len(s.buf), err)
		}
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	for _, f := range []Framing{Length, Bare} {
		raw := bytes.Repeat(framed(f, frameOf("salt/job/1/new")), 1000)
		s := newStream(bytes.NewReader(raw), DefaultMaxEvent)
		if _, err := s.begin(); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(900, func() {
			if _, err := s.next(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", f, n)
		}
	}
}

// Whatever arrives, in whatever pieces: the same frames, within the limit, and
// what was framed comes out as it went in.
func FuzzFrame(f *testing.F) {
	for _, version := range []string{"3006.9", "3006.28", "3007.15", "3008.3"} {
		raw := readGolden(f, version, "stream")
		f.Add(raw, byte(7))
		for i := 1; i < len(raw); i *= 2 {
			f.Add(raw[:i], byte(i))
		}
	}
	f.Add(framed(Length, frameOf("salt/auth")), byte(1))
	f.Fuzz(func(t *testing.T, raw []byte, piece byte) {
		const limit = 4096
		whole, s, err := readAll(bytes.NewReader(raw), limit)
		pieces, _, pieceErr := readAll(&piecemeal{raw, int(piece) + 1}, limit)
		if len(whole) != len(pieces) || (err == io.EOF) != (pieceErr == io.EOF) {
			t.Fatalf("%d frames, %v; in pieces %d, %v", len(whole), err, len(pieces), pieceErr)
		}
		var again []byte
		for i, frame := range whole {
			if len(frame) > limit || !bytes.Equal(frame, pieces[i]) {
				t.Fatalf("frame %d of %d bytes", i, len(frame))
			}
			again = append(again, framed(s.framing, frame)...)
		}
		if !bytes.HasPrefix(raw, again) || err == io.EOF && len(again) != len(raw) {
			t.Fatalf("%d bytes of frames in %d", len(again), len(raw))
		}
	})
}

// piecemeal returns n bytes at a time.
type piecemeal struct {
	rest []byte
	n    int
}

func (p *piecemeal) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(p.n, len(p.rest))])
	p.rest = p.rest[n:]
	return n, nil
}
