package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"phoenix/bridge/fleet"
)

func TestObjectRoundTrip(t *testing.T) {
	want := Identity{Pair: newPair(t),
		Files: []File{{"master_sign.pem", 0o400, []byte("a")},
			{"/etc/salt/gpgkeys/private-keys-v1.d/x.key", 0o600, []byte{0, 255}}}}
	text, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(text)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got.Files, err)
	}
}

// Whoever can write the object may not make a master write elsewhere, run out of
// memory, or take a key that is none.
func TestHostileObjects(t *testing.T) {
	pair := newPair(t)
	object := func(change func(map[string]any)) []byte {
		o := map[string]any{"version": 1, "private": string(pair.Private), "public": string(pair.Public)}
		change(o)
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	file := func(path string, mode any) []byte {
		return object(func(o map[string]any) {
			o["files"] = []any{map[string]any{"path": path, "mode": mode,
				"data": "YQ=="}}
		})
	}
	many := make([]any, maxFiles+1)
	for i := range many {
		many[i] = map[string]any{"path": fmt.Sprint("f", i), "mode": 256, "data": ""}
	}
	for name, text := range map[string][]byte{
		"empty":                 nil,
		"not JSON":              []byte("<Error/>"),
		"a list":                []byte("[]"),
		"null":                  []byte("null"),
		"nested without end":    bytes.Repeat([]byte("["), maxObject/2),
		"too long":              object(func(o map[string]any) { o["more"] = strings.Repeat("x", maxObject) }),
		"two objects":           append(object(func(map[string]any) {}), "{}"...),
		"a newer version":       object(func(o map[string]any) { o["version"] = 2 }),
		"no version":            object(func(o map[string]any) { delete(o, "version") }),
		"no private key":        object(func(o map[string]any) { delete(o, "private") }),
		"no public key":         object(func(o map[string]any) { delete(o, "public") }),
		"another's public key":  object(func(o map[string]any) { o["public"] = string(newPair(t).Public) }),
		"public as private key": object(func(o map[string]any) { o["private"] = o["public"] }),
		"key of numbers":        object(func(o map[string]any) { o["private"] = []int{1} }),
		"climbing path":         file("../../cron.d/x", 256),
		"climbing in between":   file("a/../../x", 256),
		"absolute, climbing":    file("/etc/salt/../cron.d/x", 256),
		"no path":               file("", 256),
		"the root":              file("/", 256),
		"NUL":                   file("a\x00b", 256),
		"escape sequence":       file("a\x1b[2Jb", 256),
		"the key itself":        file("master.pem", 256),
		"a minion's key":        file("minions/web-1", 256),
		"a set-user-id mode":    file("a", 0o4755),
		"a folder's mode":       file("a", 1<<31),
		"a negative mode":       file("a", -1),
		"the same file twice":   object(func(o map[string]any) { o["files"] = []any{many[0], many[0]} }),
		"too many files":        object(func(o map[string]any) { o["files"] = many }),
		"files of another kind": object(func(o map[string]any) { o["files"] = map[string]string{"a": "b"} }),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(text)
			if !errors.Is(err, fleet.ErrCorrupt) {
				t.Errorf("taken: %v, %v", got, err)
			}
		})
	}
	if _, err := decode(object(func(map[string]any) {})); err != nil {
		t.Errorf("the honest one: %v", err)
	}
}

// FuzzDecode: no object crashes a master, and what is taken is written as it was.
func FuzzDecode(f *testing.F) {
	text, err := encode(Identity{Pair: newPair(f), Files: []File{{"a/b", 0o400, []byte("x")}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		id, err := decode(text)
		if err != nil {
			return
		}
		again, err := encode(id)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode(again); err != nil || got.Digest != id.Digest || len(differing(got.Files, id.Files)) > 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
}
