package salt

import (
	"bufio"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

// answers reads testdata: by case and minion, the data of a return.
func answers(t testing.TB, version string) map[string][]byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "resolve-"+version+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string][]byte{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); words[0] != "#" {
			if all[words[0]+" "+words[1]], err = hex.DecodeString(words[2]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

func bodyOf(t testing.TB, data []byte) []byte {
	t.Helper()
	v, err := event.Any(data)
	if err != nil {
		t.Fatal(err)
	}
	m := v.(map[string]any)
	e := event.Event{Kind: event.KindReturn, ID: []byte(m["id"].(string)), JID: []byte(m["jid"].(string)), Data: data}
	r, err := e.Return()
	if err != nil {
		t.Fatal(err)
	}
	if r.Fun != ResolveFun {
		t.Errorf("fun is %s", r.Fun)
	}
	return r.Body
}

func TestResolveOfRealMinions(t *testing.T) {
	cached := map[string]Resolve{
		"running": {Running: true},
		"done":    {Cached: &CachedReturn{}},
		"unknown": {},
		"bad":     {Cached: &CachedReturn{Retcode: 2}},
		"broken":  {Cached: &CachedReturn{Retcode: 1}},
		"busy":    {Cached: &CachedReturn{Retcode: 1, Busy: true}},
		"killed":  {},
	}
	for _, version := range salts {
		all := answers(t, version)
		if len(all) != 3*len(cached) {
			t.Errorf("%s: %d answers", version, len(all))
		}
		for name, data := range all {
			job, minion, _ := strings.Cut(name, " ")
			want := cached[job]
			switch minion {
			case "m-cache":
				want.Failover = true
			case "m-plain":
				want.Cached, want.NoCache = nil, true
			}
			got, err := ParseResolve(bodyOf(t, data))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s %s: %+v, %v; want %+v", version, name, got, err, want)
			}
		}
	}
}

// What says neither that a job is known nor that it is not.
func TestResolveThatTellsNothing(t *testing.T) {
	const traceback = "Traceback (most recent call last):\n  File \"x\"\nFileNotFoundError: return.p"
	unknown := "Local jobs cache directory /x not found"
	for name, v := range map[string]any{
		"nothing":         nil,
		"a text":          "Minion in blackout mode.",
		"an empty map":    map[string]any{},
		"find_job raised": map[string]any{findJob: traceback, findCached: unknown},
		"cache raised":    map[string]any{findJob: map[string]any{}, findCached: traceback},
		"cache torn":      map[string]any{findJob: map[string]any{}, findCached: nil},
		"no retcode":      map[string]any{findJob: map[string]any{}, findCached: map[string]any{"success": true}},
		"trimmed":         map[string]any{findJob: map[string]any{}, findCached: map[string]any{"retcode": "VALUE_TRIMMED"}},
		"trimmed whole":   map[string]any{findJob: "VALUE_TRIMMED", findCached: "VALUE_TRIMMED"},
		"short list":      []any{map[string]any{}, unknown},
	} {
		raw, err := msgpack.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := ParseResolve(raw); err == nil || !reflect.DeepEqual(r, Resolve{}) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, err := ParseResolve([]byte{0xdd, 0xff, 0xff, 0xff, 0xff}); err == nil {
		t.Error("a header alone is an answer")
	}
	raw, err := msgpack.Marshal(map[string]any{findJob: map[string]any{"pid": 1}, findCached: nil})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := ParseResolve(raw); err != nil || !r.Running {
		t.Errorf("it runs, and its cache is being written: %+v, %v", r, err)
	}
}

func TestResolveBelievesNoRetcodeAgainstSuccess(t *testing.T) {
	raw, err := msgpack.Marshal(map[string]any{findJob: map[string]any{}, findCached: map[string]any{
		"retcode": 0, "success": false, "return": []any{`The function "state.highstate" is running as PID 1`}}})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := ParseResolve(raw); err != nil || *r.Cached != (CachedReturn{Retcode: 1, Busy: true}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzParseResolve(f *testing.F) {
	for _, version := range salts {
		for _, data := range answers(f, version) {
			f.Add(bodyOf(f, data))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseResolve(body)
		if err != nil && !reflect.DeepEqual(r, Resolve{}) {
			t.Errorf("%+v beside %v", r, err)
		}
	})
}
