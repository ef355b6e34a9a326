package event

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// versions are the Salts that testdata/golden was captured from.
var versions = []string{"3006.9", "3006.28", "3007.15", "3008.3"}

// golden reads a frame as that master sent it.
func golden(tb testing.TB, version, name string) []byte {
	tb.Helper()
	frame, err := os.ReadFile(filepath.Join("testdata", "golden", version, name+".bin"))
	if err != nil {
		tb.Fatal(err)
	}
	return frame
}

// allGolden reads all frames of all masters, by version and name.
func allGolden(tb testing.TB) map[string][]byte {
	tb.Helper()
	paths, err := filepath.Glob("testdata/golden/*/*.bin")
	if err != nil || len(paths) < 20*len(versions) {
		tb.Fatalf("golden frames: %d, %v", len(paths), err)
	}
	frames := map[string][]byte{}
	for _, path := range paths {
		if filepath.Base(path) == "stream.bin" {
			continue
		}
		if frames[path], err = os.ReadFile(path); err != nil {
			tb.Fatal(err)
		}
	}
	return frames
}

func split(tb testing.TB, frame []byte) Event {
	tb.Helper()
	e, err := Split(frame)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// decodeAs decodes the event by its kind.
func decodeAs(e Event) (any, error) {
	switch e.Kind {
	case KindAuth:
		return e.Auth()
	case KindKey:
		return e.Key()
	case KindStart:
		return e.Start()
	case KindReturn:
		return e.Return()
	}
	return nil, nil
}

func TestGolden(t *testing.T) {
	const id = "web-1"
	want := map[string]any{
		"auth-pend":            Auth{ID: id, Act: "pend", Result: true},
		"auth-accept":          Auth{ID: id, Act: "accept", Result: true},
		"key-accept":           Key{ID: id, Act: "accept"},
		"key-delete":           Key{ID: id, Act: "delete"},
		"start":                Start{ID: id},
		"minion-start":         nil,
		"job-new":              nil,
		"custom":               nil,
		"odd":                  nil,
		"ret-ping":             Return{ID: id, Fun: "test.ping", Success: true},
		"ret-highstate":        Return{ID: id, Fun: "state.highstate", Success: true},
		"ret-highstate-failed": Return{ID: id, Fun: "state.highstate", Retcode: 2},
		"ret-highstate-busy":   Return{ID: id, Fun: "state.highstate", Retcode: 1},
		"ret-find-job":         Return{ID: id, Fun: "saltutil.find_job", Success: true},
		"ret-find-job-none":    Return{ID: id, Fun: "saltutil.find_job", Success: true},
		"ret-cached-job":       Return{ID: id, Fun: "saltutil.find_cached_job", Success: true},
		"ret-cached-job-none":  Return{ID: id, Fun: "saltutil.find_cached_job", Success: true},
		"ret-multi":            Return{ID: id, Fun: "test.ping,test.retcode,test.false", Retcode: 42},
		"ret-mine":             Return{ID: id, Fun: "mine.update", Success: true},
		"ret-missing-function": Return{ID: id, Fun: "no.such", Retcode: 1},
		"ret-event-send":       Return{ID: id, Fun: "event.send", Success: true},
	}
	for _, version := range versions {
		for name, want := range want {
			t.Run(version+"/"+name, func(t *testing.T) {
				e := split(t, golden(t, version, name))
				got, err := decodeAs(e)
				if r, ok := got.(Return); ok {
					if r.JID != string(e.JID) || len(r.JID) != 20 || check(r.Body) != nil {
						t.Errorf("jid %q, body %x", r.JID, r.Body)
					}
					if Busy(r.Body) != (name == "ret-highstate-busy") {
						t.Errorf("busy: %t", Busy(r.Body))
					}
					r.JID, r.Body = "", nil
					got = r
				}
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %+v, %v, want %+v", e.Tag, got, err, want)
				}
			})
		}
	}
}

// What Salt may send beyond JSON, as each master's bus had it.
func TestGoldenOdd(t *testing.T) {
	want := `{
		"1": "int key", "null": "no key", "k\ufffd": "binary key",
		"when": "20240229T12:30:15.123456", "constant": "NOT_SET",
		"binary": "AP/+", "bytes": "text", "text": "smør\n\n",
		"ints": [-1, -9223372036854775808, "18446744073709551615", "18446744073709551616"],
		"float": 0.1, "none": null, "nested": {"deep": [{"x": [[], {}, true, false]}]}
	}`
	for _, version := range versions {
		value, err := Any(split(t, golden(t, version, "odd")).Data)
		if err != nil {
			t.Fatal(err)
		}
		data := value.(map[string]any)
		if stamp, ok := data["_stamp"].(string); !ok || !strings.HasPrefix(stamp, "20") {
			t.Errorf("%s: stamp %v", version, data["_stamp"])
		}
		delete(data, "_stamp")
		text, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := decodeJSON(t, string(text)), decodeJSON(t, want); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %s", version, text)
		}
	}
}

func decodeJSON(t *testing.T, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// Each body of Salt is readable as a whole, and its JSON has the tag's id.
func TestGoldenAny(t *testing.T) {
	for name, frame := range allGolden(t) {
		e := split(t, frame)
		value, err := Any(e.Data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if data, ok := value.(map[string]any); !ok || e.ID != nil && data["id"] != string(e.ID) {
			t.Errorf("%s: %v", name, value)
		}
	}
}
