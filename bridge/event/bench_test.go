package event

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

var streamFile = flag.String("stream", "",
	"write the benchmarks' stream of events to this `file`, for testdata/decode_bench.py")

// mix is what 1,000 events of a busy master are: some hundred minions that run
// monitoring jobs, update the mine and apply highstates by a schedule, and a few
// that come and go. Counts are guesses on the side of few, small highstates:
// more or larger ones only widen the gap to decoding everything.
var mix = []struct {
	name  string
	count int
}{
	{"job-new", 150},
	{"ret-ping", 400},
	{"ret-mine", 200},
	{"ret-multi", 50},
	{"ret-find-job", 50},
	{"ret-highstate", 60}, // 17 KB each
	{"ret-highstate-failed", 10},
	{"custom", 50},
	{"auth-accept", 14},
	{"auth-pend", 6},
	{"minion-start", 4},
	{"start", 4},
	{"key-accept", 2},
}

// stream mixes the golden frames of the three masters, the same way each time.
// As many highstates as keys were accepted are ones that this bridge asked for.
func stream(tb testing.TB) (frames [][]byte, ours map[string]bool) {
	tb.Helper()
	ours = map[string]bool{}
	total := 0
	for _, part := range mix {
		total += part.count
	}
	frames = make([][]byte, total)
	const stride = 617 // coprime to the total, so that each place comes once
	place := 0
	for _, part := range mix {
		for i := range part.count {
			frame := bytes.Clone(golden(tb, versions[i%len(versions)], part.name))
			if part.name == "ret-highstate" && i%30 == 0 {
				mine := split(tb, frame).JID
				theirs := bytes.Clone(mine)
				mine[0] = '9'
				ours[string(mine)] = true
				// The jid stands in the data too.
				frame = bytes.ReplaceAll(frame, theirs, mine)
			}
			frames[place] = frame
			place = (place + stride) % total
		}
	}
	return frames, ours
}

// TestStream pins what the benchmarks measure.
func TestStream(t *testing.T) {
	frames, ours := stream(t)
	kinds := map[Kind]int{}
	for _, frame := range frames {
		e := split(t, frame)
		if _, err := decodeAs(e); err != nil {
			t.Fatal(err)
		}
		if e.Kind == KindReturn && !ours[string(e.JID)] {
			e.Kind = Other
		}
		kinds[e.Kind]++
	}
	if len(frames) != 1000 || kinds[KindAuth] != 20 || kinds[KindKey] != 2 || kinds[KindStart] != 4 ||
		kinds[KindReturn] != 2 {
		t.Errorf("%d frames, of interest: %v", len(frames), kinds)
	}
	if *streamFile == "" {
		return
	}
	var out []byte
	for _, frame := range frames {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(frame))), frame...)
	}
	if err := os.WriteFile(*streamFile, out, 0o644); err != nil {
		t.Fatal(err)
	}
}

// read does what the bridge does with one event: split it, and decode it if it
// is of interest, which a return is if its jid is ours.
func read(frame []byte, ours map[string]bool) error {
	e, err := Split(frame)
	if err != nil {
		return err
	}
	switch e.Kind {
	case KindAuth:
		_, err = e.Auth()
	case KindKey:
		_, err = e.Key()
	case KindStart:
		_, err = e.Start()
	case KindReturn:
		if ours[string(e.JID)] {
			_, err = e.Return()
		}
	}
	return err
}

// decodeAll is what a reader without the scan does, with the same library.
func decodeAll(frame []byte) error {
	var envelope map[string]any
	if err := msgpack.Unmarshal(frame, &envelope); err != nil {
		return err
	}
	_, raw, _ := bytes.Cut(envelope["body"].([]byte), []byte("\n\n"))
	var data map[string]any
	return msgpack.Unmarshal(raw, &data)
}

// decodeAny is Any in the place of the library.
func decodeAny(frame []byte) error {
	e, err := Split(frame)
	if err == nil {
		_, err = Any(e.Data)
	}
	return err
}

// BenchmarkStream passes over the stream in each way by turns, so that whatever
// else the machine does burdens all alike, and reports the fastest pass of each.
func BenchmarkStream(b *testing.B) {
	frames, ours := stream(b)
	ways := []struct {
		name string
		read func([]byte) error
		best time.Duration
	}{
		{name: "interest", read: func(frame []byte) error { return read(frame, ours) }},
		{name: "full", read: decodeAll},
		{name: "any", read: decodeAny},
	}
	for b.Loop() {
		for i := range ways {
			way := &ways[i]
			began := time.Now()
			for _, frame := range frames {
				if err := way.read(frame); err != nil {
					b.Fatal(err)
				}
			}
			if took := time.Since(began); way.best == 0 || took < way.best {
				way.best = took
			}
		}
	}
	for _, way := range ways {
		b.ReportMetric(float64(way.best)/float64(len(frames)), way.name+"-ns/event")
	}
	b.ReportMetric(float64(ways[1].best)/float64(ways[0].best), "full/interest")
	b.ReportMetric(0, "ns/op") // of no meaning here
}

func BenchmarkEvent(b *testing.B) {
	for _, name := range []string{"job-new", "ret-highstate", "auth-pend", "start"} {
		frame := golden(b, "3008.3", name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := read(frame, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestNoAllocationWithoutInterest(t *testing.T) {
	for _, name := range []string{"job-new", "ret-ping", "ret-highstate", "custom", "minion-start"} {
		for _, version := range versions {
			frame := golden(t, version, name)
			if n := testing.AllocsPerRun(20, func() { read(frame, nil) }); n != 0 {
				t.Errorf("%s %s: %v allocations", version, name, n)
			}
		}
	}
}
