package relay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// FuzzMessage: whatever a peer sends is read as a message or refused, never more
// than it is, and what is read is written as the same message.
func FuzzMessage(f *testing.F) {
	for _, m := range []message{
		{Kind: kindHello, Oldest: 1, Newest: 1, Instance: "i-0123456789abcdef0", Incarnation: "ab", All: true},
		{Kind: kindJob, At: 12, JID: jid(1),
			Load: map[string]msgpack.RawMessage{"fun": packed("test.ping"), "arg": {0x90}, "tgt": packed("*")}},
		{Kind: kindAck, JID: jid(1), State: stateRefused, Why: "late", Count: 3},
		{Kind: kindReturn, JID: jid(1), ID: "web-1", Values: map[string]msgpack.RawMessage{"return": {0xc3}}},
		{Kind: kindPing, At: 1 << 40},
		{Kind: kindHave, Stamps: map[string]int64{"web-1": 1 << 60, "": -1}, Fresh: true, Here: true},
		{Kind: kindWant, IDs: []string{"web-1", "../x"}},
		{Kind: kindData, ID: "web-1", Stamp: 1 << 60, Values: map[string]msgpack.RawMessage{"grains": {0x80}}},
	} {
		body, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		frame := appendFrame(nil, body)
		f.Add(frame)
		f.Add(frame[:len(frame)/2])
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add(appendFrame(nil, bytes.Repeat([]byte{0x91}, 1<<16)))
	f.Add(appendFrame(nil, []byte{0x81, 0xa1, 'k', 0xdd, 0xff, 0xff, 0xff, 0xff}))
	f.Fuzz(func(t *testing.T, data []byte) {
		raw, err := readFrame(bytes.NewReader(data), maxFrame)
		if err != nil {
			return
		}
		if len(raw) > len(data)-4 {
			t.Fatalf("%d bytes of a frame in %d", len(raw), len(data))
		}
		m, err := decode(raw)
		if err != nil {
			return
		}
		body, err := m.encode()
		if err != nil {
			return // a text that is no UTF-8 may be as long as it likes
		}
		again, err := decode(body)
		if err != nil || again.Kind != m.Kind || again.JID != m.JID || again.At != m.At ||
			len(again.Load) != len(m.Load) || len(again.Values) != len(m.Values) ||
			len(again.Stamps) != len(m.Stamps) || len(again.IDs) != len(m.IDs) || again.Stamp != m.Stamp {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

// TestG7_FrameAnnouncesTooMuch: a length costs nothing before its bytes are there.
func TestG7_FrameAnnouncesTooMuch(t *testing.T) {
	if _, err := readFrame(strings.NewReader("\xff\xff\xff\xff"), maxFrame); !errors.Is(err, errFrame) {
		t.Errorf("a frame of 4 GiB: %v", err)
	}
	if _, err := readFrame(strings.NewReader("\x00\x00\x00\x00"), maxFrame); !errors.Is(err, errFrame) {
		t.Errorf("an empty frame: %v", err)
	}
	head := binary.BigEndian.AppendUint32(nil, maxFrame)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if _, err := readFrame(bytes.NewReader(head), maxFrame); err == nil {
			t.Fatal("a frame without its bytes was read")
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 100*4*step {
		t.Errorf("100 announced frames took %d bytes", grown)
	}
}

func TestVersions(t *testing.T) {
	for name, c := range map[string]struct {
		oldest, newest int
		good           bool
	}{
		"the same":           {1, 1, true},
		"newer, and ours":    {1, 7, true},
		"newer alone":        {2, 7, false},
		"older alone":        {0, 0, false},
		"says nothing of it": {0, 0, false},
	} {
		if _, err := version(message{Oldest: c.oldest, Newest: c.newest}); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func packed(v any) msgpack.RawMessage {
	b, err := msgpack.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
