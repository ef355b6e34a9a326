package event

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// frameOf makes a frame as a master would.
func frameOf(tb testing.TB, tag string, data any) []byte {
	tb.Helper()
	body := join([]byte(tag+"\n\n"), pack(tb, data))
	return pack(tb, map[string]any{"head": map[string]any{}, "body": body})
}

func TestTags(t *testing.T) {
	slashes := strings.Repeat("/", 10_000)
	for tag, want := range map[string]Event{
		"":                             {},
		"/":                            {},
		"salt":                         {},
		"salt/":                        {},
		"salt/auth":                    {Kind: KindAuth},
		"salt/auth/creds":              {},
		"xsalt/auth":                   {},
		"salt/key":                     {Kind: KindKey},
		"salt/keys":                    {},
		"minion_start":                 {},
		"salt/minion/a/start":          {Kind: KindStart, ID: []byte("a")},
		"salt/minion/a/b/start":        {Kind: KindStart, ID: []byte("a/b")},
		"salt/minion/start":            {},
		"salt/minion//start":           {},
		"salt/minion/a/started":        {},
		"salt/job":                     {},
		"salt/job/x":                   {},
		"salt/job/x/":                  {},
		"salt/job/x/ret":               {},
		"salt/job/x/ret/":              {},
		"salt/job//ret/a":              {},
		"salt/job/x/new":               {},
		"salt/job/x/sub/a/error/f":     {},
		"salt/job/x/ret/a":             {Kind: KindReturn, JID: []byte("x"), ID: []byte("a")},
		"salt/job/x/ret/a/b":           {Kind: KindReturn, JID: []byte("x"), ID: []byte("a/b")},
		"salt/job/x/ret/ret/":          {Kind: KindReturn, JID: []byte("x"), ID: []byte("ret/")},
		"salt/job/x/ret/a||":           {Kind: KindReturn, JID: []byte("x"), ID: []byte("a||")},
		"salt/job/x/ret/../../etc":     {Kind: KindReturn, JID: []byte("x"), ID: []byte("../../etc")},
		"salt/job/x/ret/\xff\xfe\n*":   {Kind: KindReturn, JID: []byte("x"), ID: []byte("\xff\xfe\n*")},
		"salt/job/x/ret/" + slashes:    {Kind: KindReturn, JID: []byte("x"), ID: []byte(slashes)},
		"salt/job" + slashes:           {},
		slashes:                        {},
		"salt/minion" + slashes + "/a": {},
	} {
		e := split(t, frameOf(t, tag, map[string]any{}))
		if e.Kind != want.Kind || !bytes.Equal(e.JID, want.JID) || !bytes.Equal(e.ID, want.ID) ||
			string(e.Tag) != tag || string(e.Data) != "\x80" {
			t.Errorf("%.40q: got %+v, want %+v", tag, e, want)
		}
	}
}

func TestFrames(t *testing.T) {
	body := []byte("salt/auth\n\n\x80")
	good := map[string]any{
		"str body":         map[string]any{"head": map[string]any{}, "body": string(body)},
		"bin body":         map[string]any{"head": map[string]any{}, "body": body},
		"bare":             map[string]any{"body": body},
		"extra head":       map[string]any{"head": map[string]any{"mid": 1, "x": []any{nil, "y"}}, "body": body},
		"extra field":      map[string]any{"body": body, "enc": map[string]any{"body": "no"}},
		"keys of any kind": map[any]any{1: "x", nil: 2, "body": body},
	}
	for name, frame := range good {
		if e, err := Split(pack(t, frame)); err != nil || e.Kind != KindAuth {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	bad := map[string][]byte{
		"empty":         {},
		"no map":        pack(t, []any{"head", "body"}),
		"text":          pack(t, "body"),
		"no body":       pack(t, map[string]any{"head": map[string]any{}}),
		"empty map":     {0x80},
		"body is a map": pack(t, map[string]any{"body": map[string]any{}}),
		"body is nil":   pack(t, map[string]any{"body": nil}),
		"body is empty": pack(t, map[string]any{"body": ""}),
		"no tag":        pack(t, map[string]any{"body": "salt/auth\n\x80"}),
		"trailing":      join(pack(t, good["bare"]), []byte{0}),
		"head too deep": join([]byte{0x82, 0xa4}, []byte("head"), repeat(70, 0x91), []byte{0xa4}, []byte("body"),
			[]byte{0xa0}),
		"shorter than it": pack(t, good["bin body"])[:10],
	}
	for name, frame := range bad {
		if e, err := Split(frame); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}

// Duplicate keys: the last counts, as in Python.
func TestDuplicateKeys(t *testing.T) {
	frame := join([]byte{0x82, 0xa4}, []byte("body"), pack(t, "salt/key\n\n\x80"), []byte{0xa4}, []byte("body"),
		pack(t, "salt/auth\n\n\x80"))
	if e := split(t, frame); e.Kind != KindAuth {
		t.Errorf("got %+v", e)
	}
	e := Event{Data: join([]byte{0x82}, pack(t, "id"), pack(t, "a"), pack(t, "id"), pack(t, "b"))}
	if a, err := e.Auth(); err != nil || a.ID != "b" {
		t.Errorf("got %+v, %v", a, err)
	}
}

// Salt before 2015 padded short tags, and ended only long ones.
func TestOldBodies(t *testing.T) {
	data := pack(t, map[string]any{"id": "a", "pub": "line\n\nline"})
	for tag, kind := range map[string]Kind{
		"salt/auth|||||||||||":     KindAuth,
		"salt/key||||||||||||":     KindKey,
		"salt/minion/a/start|":     KindStart,
		"salt/minion/ab/start\n\n": KindStart,
		"salt/auth\n\n":            KindAuth,
	} {
		e, err := SplitBody(join([]byte(tag), data))
		if err != nil || e.Kind != kind || !bytes.Equal(e.Data, data) || bytes.ContainsAny(e.Tag, "|\n") {
			t.Errorf("%q: %+v, %v", tag, e, err)
		}
	}
}

func TestEveryTruncationIsMalformed(t *testing.T) {
	for name, frame := range allGolden(t) {
		for i := range frame {
			if _, err := Split(frame[:i]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%s: %d of %d bytes: %v", name, i, len(frame), err)
			}
		}
	}
}

func TestSplitAllocatesNothing(t *testing.T) {
	for name, frame := range allGolden(t) {
		if n := testing.AllocsPerRun(20, func() { Split(frame) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// What is of no interest is not even looked at.
func TestOtherIsNotScanned(t *testing.T) {
	frame := pack(t, map[string]any{"body": "custom\n\n" + string(repeat(100, 0xc1))})
	if e := split(t, frame); e.Kind != Other || len(e.Data) != 100 {
		t.Errorf("got %+v", e)
	}
}

func TestMismatch(t *testing.T) {
	ret := func(jid, id any) map[string]any {
		return map[string]any{"jid": jid, "id": id, "fun": "test.ping", "retcode": 0, "success": true, "return": true}
	}
	for name, test := range map[string]struct {
		tag  string
		data any
		want error
	}{
		"start agrees":        {"salt/minion/a/start", map[string]any{"id": "a"}, nil},
		"start of another":    {"salt/minion/a/start", map[string]any{"id": "b"}, ErrMismatch},
		"start of a prefix":   {"salt/minion/a/start", map[string]any{"id": "ab"}, ErrMismatch},
		"start of nobody":     {"salt/minion/a/start", map[string]any{}, ErrMalformed},
		"start of empty":      {"salt/minion/a/start", map[string]any{"id": ""}, ErrMalformed},
		"start with int id":   {"salt/minion/1/start", map[string]any{"id": 1}, ErrMalformed},
		"start with bin id":   {"salt/minion/a/start", map[string]any{"id": []byte("a")}, nil},
		"start without a map": {"salt/minion/a/start", []string{"id", "a"}, ErrMalformed},
		"return agrees":       {"salt/job/1/ret/a", ret("1", "a"), nil},
		"return of another":   {"salt/job/1/ret/a", ret("1", "b"), ErrMismatch},
		"return of other job": {"salt/job/1/ret/a", ret("2", "a"), ErrMismatch},
		"return with int jid": {"salt/job/1/ret/a", ret(1, "a"), ErrMismatch},
		"return of nobody":    {"salt/job/1/ret/a", ret("1", nil), ErrMalformed},
		"auth of nobody":      {"salt/auth", map[string]any{"act": "pend"}, ErrMalformed},
		"auth without act":    {"salt/auth", map[string]any{"id": "a"}, nil},
		"key with list of id": {"salt/key", map[string]any{"id": []string{"a"}}, ErrMalformed},
		"key too deep": {"salt/key",
			map[any]any{"id": "a", "x": msgpack.RawMessage(join(repeat(65, 0x91), []byte{0}))}, ErrMalformed},
	} {
		_, err := decodeAs(split(t, frameOf(t, test.tag, test.data)))
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

// Ids come through as they are, to be checked where they are used.
func TestHostileIDs(t *testing.T) {
	for _, id := range []string{"../../x", "*", "i-*", "a,b", "a b", "a\nb", "\x00", strings.Repeat("x", 300), "\xff"} {
		s, err := split(t, frameOf(t, "salt/minion/"+id+"/start", map[string]any{"id": id})).Start()
		if err != nil || s.ID != id {
			t.Errorf("%q: %+v, %v", id, s, err)
		}
	}
}
